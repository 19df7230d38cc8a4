import json
import os

import pytest

from singsong_jax.sweeps import status
from singsong_jax.sweeps.grid import Cell

NOW = 1_000_000.0


@pytest.fixture
def cell(tmp_path):
  return Cell("vocals=noisy", tmp_path / "vocals=noisy", ("--vocals=noisy",), 100)


def write(cell, name, text, age=10.0):
  path = cell.model_dir / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  os.utime(path, (NOW - age, NOW - age))


def records(*steps, **scalars):
  return "".join(json.dumps({"step": step, "loss": 9.0 - step / 100, **scalars}) + "\n" for step in steps)


def state(cell):
  return status.status_of(cell, NOW).state


def test_a_cell_that_was_never_started_waits(cell):
  assert state(cell) == "waiting"
  assert status.status_of(cell, NOW).loss is None


@pytest.mark.parametrize("folder", ["checkpoints/100", "checkpoint_100"])
def test_a_checkpoint_of_the_last_step_is_done_whatever_else(cell, folder):
  (cell.model_dir / folder).mkdir(parents=True)
  (cell.model_dir / "checkpoints/200.orbax-checkpoint-tmp-1").mkdir(parents=True)
  write(cell, status.STATUS_FILE, "1")
  assert state(cell) == "done" and status.is_done(cell)


def test_a_running_cell_says_when_it_ends(cell):
  write(cell, "metrics/train.jsonl", records(1, 20, steps_per_second=0.5) + '{"step": 40, "lo')
  write(
    cell, "metrics/eval.jsonl", records(20) + '{"step": 20, "fad_isolated": 3.0}\n'
  )  # of FadEarlyStopping
  found = status.status_of(cell, NOW)
  assert (found.state, found.step, found.loss, found.eval_loss) == ("running", 20, 8.8, 8.8)
  assert found.eta_seconds == 160.0


def test_it_runs_from_when_it_is_started(cell):
  write(cell, status.STATUS_FILE, "running")
  assert state(cell) == "running"


def test_what_writes_nothing_for_long_has_stopped(cell):
  write(cell, "metrics/train.jsonl", records(1, 20, steps_per_second=1.0), age=3600)
  assert state(cell) == "stopped"


def test_a_slow_run_is_given_three_of_its_periods(cell):
  write(cell, "metrics/train.jsonl", records(1, 61, steps_per_second=1 / 60), age=2 * 3600)
  assert state(cell) == "running"


@pytest.mark.parametrize(("exit_status", "expected"), [("2", "failed"), ("0", "stopped")])
def test_what_ended_before_its_last_step(cell, exit_status, expected):
  write(cell, "metrics/train.jsonl", records(1))
  write(cell, status.STATUS_FILE, exit_status, age=5)
  assert state(cell) == expected


def test_a_failure_is_over_when_the_run_goes_on(cell):
  write(cell, status.STATUS_FILE, "2", age=100)
  write(cell, "metrics/train.jsonl", records(1))
  assert state(cell) == "running"


def test_the_table(cell, tmp_path):
  write(cell, "metrics/train.jsonl", records(1, 20, steps_per_second=0.0001))
  failed = Cell("size=xl,vocals=noisy", tmp_path / "xl", (), 100)
  write(failed, status.STATUS_FILE, "137")
  lines = status.table([status.status_of(one, NOW) for one in (cell, failed)]).splitlines()
  assert lines[0].split() == ["cell", "state", "step", "loss", "eval", "loss", "steps/s", "time", "left"]
  assert lines[1].split() == ["vocals=noisy", "running", "20/100", "8.8000", "0.00", "9", "d", "6:13", "h"]
  assert lines[2].split() == ["size=xl,vocals=noisy", "failed", "(137)", "0/100"]
  assert lines[3] == "2 cells: 1 running, 1 failed"
