import errno
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training import distributed, loop
from singsong_jax.training.checkpoints import Checkpoints, load_checkpoint
from singsong_jax.training.descriptions import check_same


def run(model_dir, **changes):
  loop.train(**toy_system.settings(model_dir, **changes))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("model")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("singsong_jax.training.metrics._tensorboard_writer", lambda folder: None)
    run(path, total_steps=4, checkpoint_period=2, checkpoints_to_keep=2)
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
  with pytest.raises(InputError, match=r"embedding has shape \(10, 8\), the model wants \(10, 6\)"):
    load(tmp_path)


def test_what_another_process_refuses_ends_one_that_cannot_read_too(tmp_path, monkeypatch):
  (tmp_path / "checkpoints/4").mkdir(parents=True)  # it has no meta here
  monkeypatch.setattr(distributed, "gather", lambda text: [text, "another seed"])
  with (
    pytest.raises(InputError, match="process 1: another seed"),
    Checkpoints(tmp_path, keep=1) as checkpoints,
  ):
    checkpoints.restore_latest(None, None, lambda meta: None)


def test_a_checkpoint_of_other_arrays_is_refused_and_stays(tmp_path):
  run(tmp_path, total_steps=4)
  path = tmp_path / "model.json"
  path.write_text(path.read_text().replace('"width": 8', '"width": 6'))
  with pytest.raises(InputError, match=r"4/params: embedding has shape \(10, 8\), the model wants \(10, 6\)"):
    run(tmp_path, system=toy_system.ToySystem(width=6))
  assert os.listdir(tmp_path / "checkpoints") == ["4"]


def test_a_disk_that_does_not_answer_for_a_moment_is_asked_again(tmp_path, monkeypatch, capsys):
  answers = iter([OSError(errno.ESTALE, "Stale file handle")] * 2)
  usage = shutil.disk_usage(tmp_path)

  def asked(path):
    if failure := next(answers, None):
      raise failure
    return usage

  monkeypatch.setattr(shutil, "disk_usage", asked)
  run(tmp_path, total_steps=4)
  assert capsys.readouterr().err.count("checkpoints: Stale file handle. Trying again") == 2
  assert os.listdir(tmp_path / "checkpoints") == ["4"]


def test_a_checkpoint_that_cannot_be_read_for_a_moment_is_read_again(tmp_path, capsys):
  class Stale(toy_system.ToyIterator):
    failures = 2

    def restore(self, folder):
      if self.failures:
        self.failures -= 1
        raise OSError(errno.ESTALE, "Stale file handle")
      super().restore(folder)

  run(tmp_path, total_steps=4)
  run(tmp_path, train_dataset=Stale, total_steps=5)
  assert "continuing from step 4" in capsys.readouterr().err


def test_a_disk_that_does_not_answer_hides_no_failure(tmp_path, monkeypatch):
  def failing(*_):
    raise OSError(errno.ESTALE, "Stale file handle")

  with Checkpoints(tmp_path, keep=1) as checkpoints, monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, "glob", failing)
    assert checkpoints._clean_up(InputError("cannot write")) == "cannot write"


def test_check_same_lists_nested_differences():
  old = {"network": {"emb_dim": 8, "acts": ["a"]}, "gone": 1, "z": 0}
  new = {"network": {"emb_dim": 6, "acts": ("a",)}, "z": 0}
  with pytest.raises(InputError) as caught:
    check_same(old, new, "model.json")
  assert "(gone was 1, now None; network.emb_dim was 8, now 6)" in str(caught.value)
