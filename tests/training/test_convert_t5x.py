"""convert_t5x: a run of ours to t5x's format and on from there."""

import json
import os

import pytest
from toy_system import settings

from singsong_jax import convert_t5x, files
from singsong_jax.errors import InputError
from singsong_jax.training import loop


def losses(model_dir):
  records = map(json.loads, (model_dir / "metrics/train.jsonl").read_text().splitlines())
  return {record["step"]: record["loss"] for record in records}


@pytest.fixture(scope="module")
def native(tmp_path_factory):
  model_dir = tmp_path_factory.mktemp("native")
  loop.train(**settings(model_dir, total_steps=4))
  return model_dir


def test_a_converted_run_goes_on(native, tmp_path):
  checkpoint = convert_t5x.to_t5x(settings(native), str(tmp_path / "t5x"))
  assert checkpoint == str(tmp_path / "t5x/checkpoint_4")
  model_dir = tmp_path / "again"
  assert convert_t5x.from_t5x(settings(model_dir), checkpoint) == str(model_dir / "checkpoints/4")
  loop.train(**settings(model_dir, total_steps=8))
  assert list(losses(model_dir)) == [5, 6, 7, 8]
  assert losses(model_dir)[5] < losses(native)[1]  # the same batch: the data begin anew


def test_what_cannot_be_converted(native, tmp_path):
  with pytest.raises(InputError, match="has a checkpoint of step 4 already"):
    convert_t5x.from_t5x(settings(native), str(tmp_path))
  with pytest.raises(InputError, match="holds no checkpoint yet"):
    convert_t5x.to_t5x(settings(tmp_path), str(tmp_path))


def test_a_model_dir_that_is_in_training_is_left_alone(native, tmp_path):
  new = tmp_path / "new"
  new.mkdir()
  checkpoint = convert_t5x.to_t5x(settings(native), str(tmp_path / "t5x"))
  with files.locked(native), files.locked(new):
    with pytest.raises(InputError, match=f"{native} is in use by process {os.getpid()}"):
      convert_t5x.to_t5x(settings(native), str(tmp_path / "other"))
    with pytest.raises(InputError, match=f"{new} is in use by process {os.getpid()}"):
      convert_t5x.from_t5x(settings(new), checkpoint)
