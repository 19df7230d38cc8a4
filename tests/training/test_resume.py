"""The trainer as a program that is stopped, disturbed and moved; tests/benchmarks/test_soak.py kills it."""

import resource
import signal

import numpy as np
import pytest
from programs import finish, losses, saved_steps, start, wait_for_step


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
  assert "8 data × 1 fsdp × 1 model" in outputs["data"][1]
  assert "4 data × 1 fsdp × 2 model" in outputs["model"][1]
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
  wait_for_step(tmp_path, process)
  process.send_signal(signal.SIGTERM)
  status, output = finish(process)
  assert status == 0 and "SIGTERM: saved at step" in output
  assert saved_steps(tmp_path) == [losses(tmp_path)[-1][0]]


@pytest.mark.slow
def test_a_write_that_fails_is_an_error_and_leaves_no_checkpoint(tmp_path):
  """A limit on the size of files stands in for a disk that fills up during the write."""
  limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "limited"]  # KiB
  process = start(tmp_path, "--gin.ToySystem.width=4_000", prefix=limited)
  status, output = finish(process)
  assert status == 2
  assert output.count(f"error: cannot write {tmp_path}/checkpoints") == 1  # among what Orbax's threads print
  assert saved_steps(tmp_path) == []


@pytest.mark.slow
def test_a_write_that_fails_is_made_up_for_when_there_is_space_again(tmp_path):
  setting = ["--gin.ToySystem.width=4_000", "--gin.train.checkpoint_period=3", "--gin.train.total_steps=30"]
  process = start(
    tmp_path / "parts", *setting, "--gin.train.retry_seconds=[1, 2, 4]", "--gin.ToyIterator.delay_seconds=0.1"
  )
  wait_for_step(tmp_path / "parts", process)
  limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_000, limits[1]))  # bytes: as if the disk were full
  assert any("WARNING: cannot write" in line and "Writing step" in line for line in process.stderr)
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
  assert finish(process)[0] == 0
  assert finish(start(tmp_path / "whole", *setting))[0] == 0
  assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
  assert saved_steps(tmp_path / "parts")[-1] == 30
  assert not list((tmp_path / "parts/checkpoints").glob("*tmp*"))
