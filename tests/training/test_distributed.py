"""training/distributed.py: real processes that train the toy system together."""

import re
import signal

import numpy as np
import pytest
from programs import (
  finish,
  finish_all,
  free_address,
  losses,
  process_flags,
  saved_steps,
  start,
  start_processes,
  wait_for_step,
)

from singsong_jax.errors import InputError
from singsong_jax.training import distributed

SLOWLY = "--gin.ToyIterator.delay_seconds=0.05"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """An uninterrupted run in one process."""
  path = tmp_path_factory.mktemp("whole")
  status, output = finish(start(path))
  assert status == 0, output
  return path


def statuses(results):
  return [status for status, _ in results]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("count", "devices", "options", "rtol"),
  [(4, 1, [], 1e-6), (2, 1, ["--gin.train.num_partitions=2"], 1e-5)],
)
def test_processes_train_as_one(whole, tmp_path, count, devices, options, rtol):
  results = finish_all(start_processes(tmp_path, count, *options, devices=devices))
  assert statuses(results) == [0] * count, results
  for split in ("train", "eval"):
    np.testing.assert_allclose(losses(tmp_path, split), losses(whole, split), rtol=rtol)
  assert saved_steps(tmp_path) == saved_steps(whole)
  assert "done: 12 steps" in results[0][1]
  assert not any(re.search("loss|done|WARNING", output) for _, output in results[1:])


@pytest.mark.slow
def test_a_run_moves_to_other_numbers_of_processes_and_meshes(whole, tmp_path):
  for steps, count, devices, fsdp in ((5, 2, 2, 2), (9, 4, 1, 1)):
    options = [f"--gin.train.total_steps={steps}", f"--gin.train.fsdp={fsdp}"]
    results = finish_all(start_processes(tmp_path, count, *options, devices=devices))
    assert statuses(results) == [0] * count, results
  assert finish(start(tmp_path))[0] == 0
  np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_is_killed_the_other_says_so_and_the_run_goes_on(whole, tmp_path, killed):
  kill = ["--gin.ToyIterator.kill_at=9", f"--gin.ToyIterator.kills={killed}"]
  results = finish_all(start_processes(tmp_path, 2, SLOWLY, *kill))
  assert results[killed][0] == -signal.SIGKILL
  status, output = results[1 - killed]
  # Of the coordinator's end JAX's own thread may learn first, which aborts with a message of its own.
  lost = re.search("error: process . of 2 lost the others|another task died", output)
  assert lost and (status == 2 or (killed == 0 and status == -signal.SIGABRT)), results
  assert 4 in saved_steps(tmp_path)  # at 8 the write was perhaps not over
  assert finish(start(tmp_path))[0] == 0
  np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-6)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path):
  endless = ["--gin.train.total_steps=100_000", "--gin.train.checkpoint_period=100_000"]
  processes = start_processes(tmp_path, 2, SLOWLY, *endless)
  wait_for_step(tmp_path, processes[0])
  processes[1].send_signal(signal.SIGTERM)
  results = finish_all(processes)
  assert statuses(results) == [0, 0], results
  (step,) = saved_steps(tmp_path)
  assert f"SIGTERM: saved at step {step}" in results[0][1]
  assert losses(tmp_path)[-1][0] == step


@pytest.mark.slow
def test_an_unreadable_checkpoint_is_set_aside_by_all(whole, tmp_path):
  assert statuses(finish_all(start_processes(tmp_path, 2, "--gin.train.total_steps=8"))) == [0, 0]
  for path in (tmp_path / "checkpoints/8/params").rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  results = finish_all(start_processes(tmp_path, 2))
  assert statuses(results) == [0, 0], results
  assert "WARNING: checkpoint 8 cannot be read" in results[0][1]
  assert "continuing from step 4" in results[0][1]
  np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-6)


@pytest.mark.slow
def test_when_one_process_cannot_write_all_stop_and_the_checkpoint_before_stays(tmp_path):
  sizes = ["--gin.ToySystem.width=4_000", "--gin.train.checkpoint_period=1"]
  assert statuses(finish_all(start_processes(tmp_path, 2, *sizes, "--gin.train.total_steps=1"))) == [0, 0]
  limited = {1: ["bash", "-c", 'ulimit -f 40; exec "$@"', "limited"]}  # KiB
  results = finish_all(start_processes(tmp_path, 2, *sizes, prefixes=limited))
  assert results[1][0] == 2 and f"error: cannot write {tmp_path}/checkpoints" in results[1][1]
  assert results[0][0] == 2 and "error: " in results[0][1]
  assert saved_steps(tmp_path) == [1]


@pytest.mark.slow
def test_what_one_process_finds_wrong_ends_all(tmp_path):
  processes = start_processes(tmp_path, 2, "--gin.ToyIterator.batch_size=7", devices=2)
  results = finish_all(processes)
  assert statuses(results) == [2, 2], results
  assert "error: batch size" in results[0][1] and "use a multiple of 4" in results[0][1]


@pytest.mark.slow
def test_a_model_dir_of_one_process_alone_is_refused(tmp_path):
  folders, address = ("shared", "own"), free_address()
  results = finish_all(
    [start(tmp_path / name, *process_flags(address, 2, i)) for i, name in enumerate(folders)]
  )
  assert statuses(results) == [2, 2], results
  assert f"{tmp_path}/own is not the folder that process 0 writes" in results[1][1]
  assert "error: process 1: " in results[0][1]


@pytest.mark.slow
def test_too_few_processes_are_an_error_that_names_the_flag(tmp_path):
  status, output = finish(start(tmp_path, *process_flags(free_address(), 3, 0), "--start_seconds=2"))
  assert status == 2
  assert (
    "error: the 3 processes did not all start within 2 s" in output and "change --process_count" in output
  )


@pytest.mark.slow
def test_different_process_counts_are_an_error(tmp_path):
  address = free_address()
  first, second = (start(tmp_path, *process_flags(address, count, i)) for i, count in enumerate((2, 3)))
  try:
    status, output = finish(second)
    assert status == 2 and "--process_count=3 here, and 2 at process 0" in output
  finally:
    first.kill()  # it would wait for the other's connections a while longer
    first.communicate()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("host:1", None, None), "--coordinator_address needs --process_count and --process_index too"),
    (("host:1", 2, None), "--coordinator_address needs --process_index too"),
    ((None, 2, 0), "--process_count and --process_index need --coordinator_address=HOST:PORT too"),
    (("host:1", 2, 2), "--process_index=2 is not one of 0 … 1, as --process_count says"),
    (("host", 2, 1), "--coordinator_address=host: write HOST:PORT"),
  ],
)
def test_arguments_that_contradict_each_other(arguments, message):
  with pytest.raises(InputError, match=message):
    distributed.initialize(*arguments)


@pytest.mark.slow
def test_the_flags_need_the_one_that_turns_them_on(tmp_path):
  status, output = finish(start(tmp_path, "--process_count=2"))
  assert status == 2 and "error: --process_count needs --multiprocess too" in output
  status, output = finish(start(tmp_path, "--multiprocess"))
  assert status == 2 and "Outside TPU pods, SLURM and Open MPI give --coordinator_address" in output


def test_one_process_agrees_with_itself():
  assert distributed.gather("text") == ["text"] and distributed.is_main()
  distributed.check_same("step", 3)
  with pytest.raises(InputError, match="found here"), distributed.together():
    raise InputError("found here")
  with pytest.raises(ZeroDivisionError), distributed.exiting_at_once():
    raise ZeroDivisionError
