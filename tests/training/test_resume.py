"""The trainer as a program that is killed, over and over, and put on other devices."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

PROGRAM = pathlib.Path(__file__).parent / "toy_system.py"
ROOT = PROGRAM.parent.parent.parent


def start(model_dir, *arguments, devices=1, prefix=()):
  environment = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "TOY_WITHOUT_TENSORBOARD": "1",
  }
  command = [*prefix, sys.executable, str(PROGRAM), f"--gin.train.model_dir={model_dir}", *arguments]
  return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process):
  output, errors = process.communicate(timeout=240)
  return process.returncode, output + errors


def losses(model_dir, split="train"):
  lines = (model_dir / f"metrics/{split}.jsonl").read_text().splitlines()
  return [(row["step"], row["loss"]) for row in map(json.loads, lines)]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_exactly(tmp_path):
  """SIGKILL at random times, checkpoints at every other step, so that writes are hit as well."""
  setting = [
    "--gin.train.total_steps=40",
    "--gin.train.checkpoint_period=2",
    "--gin.ToyIterator.delay_seconds=0.02",
  ]
  assert finish(start(tmp_path / "whole", *setting))[0] == 0
  rng, killed, path = random.Random(0), 0, tmp_path / "parts"
  for _ in range(30):
    process = start(path, *setting)
    while process.poll() is None and not _has_new_step(path):
      time.sleep(0.005)
    time.sleep(rng.random() * 0.4)
    process.kill()
    status, _ = finish(process)
    killed += status == -signal.SIGKILL
    if status == 0 or killed == 3:
      break
  assert killed >= 2
  assert finish(start(path, *setting))[0] == 0
  assert losses(path) == losses(tmp_path / "whole")
  assert losses(path, "eval") == losses(tmp_path / "whole", "eval")


def _has_new_step(path):
  file = path / "metrics/train.jsonl"
  return file.exists() and time.time() - file.stat().st_mtime < 0.05 and file.stat().st_size > 0


@pytest.mark.slow
def test_the_same_losses_on_eight_devices(tmp_path):
  """8 × 1 and 4 × 2 (data × model) devices against one device."""
  layouts = {
    "one": start(tmp_path / "one"),
    "data": start(tmp_path / "data", devices=8),
    "model": start(tmp_path / "model", "--gin.train.num_partitions=2", devices=8),
  }
  outputs = {name: finish(process) for name, process in layouts.items()}
  assert [status for status, _ in outputs.values()] == [0, 0, 0], outputs
  assert "8 data-parallel × 1 model-parallel" in outputs["data"][1]
  assert "4 data-parallel × 2 model-parallel" in outputs["model"][1]
  for name in ("data", "model"):
    for split in ("train", "eval"):
      np.testing.assert_allclose(losses(tmp_path / name, split), losses(tmp_path / "one", split), rtol=1e-4)


@pytest.mark.slow
def test_a_run_moves_to_other_devices(tmp_path):
  assert finish(start(tmp_path / "whole"))[0] == 0
  assert (
    finish(start(tmp_path / "parts", "--gin.train.total_steps=6", "--gin.train.num_partitions=2", devices=8))[
      0
    ]
    == 0
  )
  assert finish(start(tmp_path / "parts"))[0] == 0
  np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-4)


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_an_error_with_numbers(tmp_path):
  status, output = finish(start(tmp_path, "--gin.ToyIterator.batch_size=6", devices=8))
  assert status == 2
  assert "error: batch size 6 does not divide into 1 microbatches over 8 data-parallel devices" in output
  assert "Traceback" not in output


@pytest.mark.slow
def test_sigterm_saves_and_exits_cleanly(tmp_path):
  process = start(
    tmp_path,
    "--gin.train.total_steps=100_000",
    "--gin.train.checkpoint_period=100_000",
    "--gin.ToyIterator.delay_seconds=0.01",
  )
  while process.poll() is None and not _has_new_step(tmp_path):
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  status, output = finish(process)
  assert status == 0 and "SIGTERM: saved at step" in output
  assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir()] == [losses(tmp_path)[-1][0]]


@pytest.mark.slow
def test_a_write_that_fails_is_an_error_and_leaves_no_checkpoint(tmp_path):
  """A limit on the size of files stands in for a disk that fills up during the write."""
  limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "limited"]  # KiB
  process = start(tmp_path, "--gin.ToySystem.width=4_000", prefix=limited)
  status, output = finish(process)
  assert status == 2
  assert output.count(f"error: cannot write {tmp_path}/checkpoints") == 1  # among what Orbax's threads print
  assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()]
