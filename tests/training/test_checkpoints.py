import json

import numpy as np
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training import loop
from singsong_jax.training.checkpoints import check_same, load_checkpoint


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("model")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("singsong_jax.training.metrics._tensorboard_writer", lambda folder: None)
    loop.train(**toy_system.settings(path, total_steps=4, checkpoint_period=2, checkpoints_to_keep=2))
  return path


def load(model_dir, step=None):
  return load_checkpoint(model_dir, step, toy_system.toy_from_description)


def test_load_gives_system_parameters_and_step(model_dir):
  system, params, step = load(model_dir)
  assert (system, step) == (toy_system.ToySystem(), 4)
  assert {name: value.shape for name, value in params.items()} == {"embedding": (10, 8), "head": (8, 20)}
  assert load(str(model_dir), 2)[2] == 2
  assert not np.array_equal(load(model_dir, 2)[1]["head"], params["head"])


def test_a_step_that_is_not_there(model_dir):
  with pytest.raises(InputError, match="no checkpoint of step 3; it has 2, 4"):
    load(model_dir, 3)


@pytest.mark.parametrize("files,message", [([], "no model.json"), (["model.json"], "no checkpoint yet")])
def test_not_a_model_directory(tmp_path, files, message):
  for name in files:
    (tmp_path / name).write_text('{"system": "toy"}')
  with pytest.raises(InputError, match=message):
    load(tmp_path)


def test_a_checkpoint_of_another_size(model_dir, tmp_path):
  description = json.loads((model_dir / "model.json").read_text()) | {"width": 6}
  (tmp_path / "model.json").write_text(json.dumps(description))
  (tmp_path / "checkpoints").symlink_to(model_dir / "checkpoints")
  with pytest.raises(InputError, match=r"'embedding'.* has shape \(10, 8\), the model wants \(10, 6\)"):
    load(tmp_path)


def test_check_same_lists_nested_differences():
  old = {"network": {"emb_dim": 8, "acts": ["a"]}, "gone": 1, "z": 0}
  new = {"network": {"emb_dim": 6, "acts": ("a",)}, "z": 0}
  with pytest.raises(InputError) as caught:
    check_same(old, new, "model.json")
  assert "(gone was 1, now None; network.emb_dim was 8, now 6)" in str(caught.value)
