"""benchmarks/soak.py with the toy system: twenty kills, and nothing is lost."""

import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import soak

TOY = pathlib.Path(__file__).parent.parent / "training" / "toy_system.py"


def toy(model_dir, total_steps):
  return [
    sys.executable,
    str(TOY),
    f"--gin.train.model_dir={model_dir}",
    f"--gin.train.total_steps={total_steps}",
    "--gin.train.checkpoint_period=2",
    "--gin.train.eval_period=7",
    "--gin.train.stats_period=3",
    "--gin.ToyIterator.delay_seconds=0.03",
  ]


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
  environment = os.environ | {
    "PYTHONPATH": str(soak.ROOT),
    "JAX_PLATFORMS": "cpu",
    "TOY_WITHOUT_TENSORBOARD": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "true",
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  happened = (
    soak.kill_repeatedly(  # on any machine it outlasts the kills; where it ends is settled afterwards
      toy(parts, 100_000), parts, kills=20, start_seconds=4, step_seconds=0.3, environment=environment
    )
  )
  steps = happened[-1]["saved"] + 20
  for folder in (parts, whole):
    subprocess.run(toy(folder, steps), env=environment, check=True, capture_output=True)
  result = soak.judge(happened, whole, parts, checkpoint_period=2)
  assert steps > 40 and result["compared_records"] >= steps // 3 + steps // 7
  for name in (
    "differing_records",
    "lost_checkpoints",
    "unreadable_checkpoints",
    "steps_lost_beyond_two_periods",
  ):
    assert result[name] == 0, (result, happened)


def test_a_difference_and_a_loss_are_counted(tmp_path):
  rows = {"whole": [(1, 2.0), (2, 1.0)], "parts": [(1, 2.0), (2, 1.5)]}
  for name, pairs in rows.items():
    for split in ("train", "eval"):
      path = tmp_path / name / f"metrics/{split}.jsonl"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(
        "".join(f'{{"step": {step}, "loss": {loss}, "mfu": {name == "parts":d}}}\n' for step, loss in pairs)
      )
  kills = [
    {"moment": "start", "recorded": 9, "saved": 8, "found": 0, "warned": False},
    {"moment": "step", "recorded": 15, "saved": 4, "found": 8, "warned": True},
  ]
  result = soak.judge(kills, tmp_path / "whole", tmp_path / "parts", checkpoint_period=4)
  assert result["differing_records"] == 2 and result["compared_records"] == 4
  assert result["differing_names"] == ["loss"]
  assert result["lost_checkpoints"] == result["unreadable_checkpoints"] == 1
  assert result["most_steps_lost"] == 11 and result["steps_lost_beyond_two_periods"] == 1
