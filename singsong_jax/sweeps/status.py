"""How far the cells of a sweep are, read off their folders: works for whatever started them."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterable, Sequence

from singsong_jax import files
from singsong_jax.sweeps.grid import Cell

# What starts a cell writes "running" into it before, and the exit status after.
STATUS_FILE = "cell_status"
RUNNING = "running"
ENDED_EARLY = "ended_early.txt"  # the trainer's, of a run that a callback ended: why
_PATIENCE_SECONDS = 15 * 60  # a run that has written nothing for so long and for three periods has stopped


@dataclasses.dataclass(frozen=True)
class Status:
  """One cell's.

  Attributes:
    state: 'waiting', 'running', 'stopped' (killed or pre-empted, can go on), 'failed' or 'done'.
    step: the last one recorded or saved.
    eta_seconds: of a running cell, from its speed.
    exit_status: of the last attempt, if it ended.
  """

  cell: Cell
  state: str
  step: int = 0
  loss: float | None = None
  eval_loss: float | None = None
  steps_per_second: float | None = None
  eta_seconds: float | None = None
  exit_status: int | None = None


def is_done(cell: Cell) -> bool:
  if cell.result is not None:
    return (cell.model_dir / cell.result).exists()
  return newest_step(cell.model_dir) >= cell.total_steps or (cell.model_dir / ENDED_EARLY).exists()


def signs_of_the_end(cell: Cell) -> tuple[str, ...]:
  """Paths in a cell's folder: a task that ended well is done where one of them exists, and otherwise stopped.

  An evaluation that ended well is done.
  """
  if cell.result is not None:
    return (STATUS_FILE,)
  return (f"checkpoints/{cell.total_steps}", f"checkpoint_{cell.total_steps}", ENDED_EARLY)


def newest_step(model_dir: pathlib.Path) -> int:
  """Step of the newest complete checkpoint of this trainer or of t5x; 0 where there is none.

  `training.checkpoints` would take seconds to import.
  """
  names = [path.name for path in model_dir.glob("checkpoints/*")]
  names += [path.name.removeprefix("checkpoint_") for path in model_dir.glob("checkpoint_*")]
  return max((int(name) for name in names if name.isdecimal()), default=0)


def status_of(cell: Cell, now: float | None = None) -> Status:
  """Reads a cell's folder. `now` is in seconds since the epoch."""
  now = time.time() if now is None else now
  train, evaluation = (records(cell.model_dir / "metrics" / f"{split}.jsonl") for split in ("train", "eval"))
  last = train[-1] if train else {}
  saved = newest_step(cell.model_dir)
  step = max(last.get("step", 0), saved)
  rate = next((row["steps_per_second"] for row in reversed(train) if "steps_per_second" in row), None)
  exit_status = _exit_status(cell)
  state = _state(cell, saved, exit_status, now - max(_PATIENCE_SECONDS, 3 * _period(train, rate)))
  return Status(
    cell=cell,
    state=state,
    step=step,
    loss=last.get("loss"),
    eval_loss=next((row["loss"] for row in reversed(evaluation) if "loss" in row), None),
    steps_per_second=rate,
    eta_seconds=(cell.total_steps - step) / rate if rate and state == "running" else None,
    exit_status=exit_status,
  )


def _state(cell: Cell, saved: int, exit_status: int | None, alive_since: float) -> str:
  if is_done(cell):
    return "done"
  ended = cell.model_dir / STATUS_FILE
  written = [*cell.model_dir.glob("metrics/*.jsonl"), cell.model_dir / "config.gin"]
  if cell.result is not None:  # of an evaluation, what it has generated
    written += cell.model_dir.rglob("*.wav")
  written = [_modified(path) for path in written]
  if exit_status is not None and _modified(ended) >= max(written):
    return "failed" if exit_status else "stopped"
  newest = max(*written, _modified(ended))
  if not newest:
    return "waiting"
  return "running" if newest > alive_since else "stopped"


def _period(train: Sequence[dict], rate: float | None) -> float:
  """Seconds between two records."""
  return (train[-1]["step"] - train[-2]["step"]) / rate if rate and len(train) > 1 else 0.0


def _modified(path: pathlib.Path) -> float:
  try:
    return path.stat().st_mtime
  except OSError:
    return 0.0


def _exit_status(cell: Cell) -> int | None:
  try:
    text = (cell.model_dir / STATUS_FILE).read_text(encoding="utf-8").strip()
  except OSError:
    return None
  return int(text) if text.isdecimal() else None


def records(path: pathlib.Path) -> list[dict]:
  """Of a `metrics/*.jsonl`, the whole lines; a run may be in the middle of the last one."""
  found = []
  for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
    try:
      found.append(json.loads(line))
    except ValueError:
      continue
  return [record for record in found if isinstance(record.get("step"), int)]


def mark(cell: Cell, text: str) -> None:
  """Records that a cell was started (`RUNNING`) or how it ended (its exit status)."""
  files.write_text(cell.model_dir / STATUS_FILE, f"{text}\n")


def table(statuses: Iterable[Status]) -> str:
  """One line a cell, one that sums up."""
  statuses = list(statuses)
  rows = [("cell", "state", "step", "loss", "eval loss", "steps/s", "time left")]
  rows += [_row(status) for status in statuses]
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = [
    "  ".join(text.ljust(n) if i < 2 else text.rjust(n) for i, (text, n) in enumerate(zip(row, widths)))
    for row in rows
  ]
  counts = {state: 0 for state in ("done", "running", "waiting", "stopped", "failed")}
  for status in statuses:
    counts[status.state] += 1
  summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
  return "\n".join(line.rstrip() for line in [*lines, f"{len(statuses)} cells: {summary}"])


def _row(status: Status) -> tuple[str, ...]:
  state = f"failed ({status.exit_status})" if status.state == "failed" else status.state
  return (
    status.cell.name,
    state,
    f"{status.step}/{status.cell.total_steps}",
    _number(status.loss, ".4f"),
    _number(status.eval_loss, ".4f"),
    _number(status.steps_per_second, ".2f"),
    _duration(status.eta_seconds),
  )


def _number(value: float | None, form: str) -> str:
  return "" if value is None else format(value, form)


def _duration(seconds: float | None) -> str:
  if seconds is None:
    return ""
  days, rest = divmod(round(seconds / 60), 24 * 60)
  clock = f"{rest // 60}:{rest % 60:02} h"
  return f"{days} d {clock}" if days else clock
