"""The command: a small folder that inference takes, and that never hides a training's checkpoints."""

import subprocess
import sys

import pytest

from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.inference.models import load_models


def export(model_dir, output_dir, *flags):
  command = [sys.executable, "-m", "singsong_jax.export_model", f"--model_dir={model_dir}"]
  return subprocess.run([*command, f"--output_dir={output_dir}", *flags], capture_output=True, text=True)


@pytest.mark.slow
def test_a_training_becomes_a_folder_that_is_played_as_it_says(model_dir, tmp_path):
  done = export(model_dir, tmp_path / "out", "--temperature=0.7", "--guidance_scale=2")
  assert done.returncode == 0 and "step 7" in done.stdout, done.stderr
  models = load_models(tmp_path / "out")
  assert models.coarse.step == 7
  assert models.options == SamplingOptions(temperature=0.7, guidance_scale=2.0)
  assert models.tokenizers.codec.fingerprint() == load_models(model_dir).tokenizers.codec.fingerprint()


@pytest.mark.slow
def test_a_trainings_own_folder_is_refused(model_dir):
  before = sorted(model_dir.rglob("*"))
  done = export(model_dir, model_dir)
  assert done.returncode == 2 and "has checkpoints of training" in done.stderr
  assert sorted(model_dir.rglob("*")) == before
