"""Cells one after the other on this machine."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from singsong_jax.sweeps import status
from singsong_jax.sweeps.grid import ROOT, Cell, Sweep


def run_cells(sweep: Sweep, cells: Sequence[Cell]) -> tuple[list[Cell], int | None]:
  """Runs cells in turn; one that fails does not keep the next from running.

  SIGTERM is passed on to the running cell, Ctrl-C reaches it by itself: it saves, and no other starts.

  Returns:
    (cells that ended before they were done, the signal that ended all of it or None).
  """
  unfinished: list[Cell] = []
  with _Signals() as signals:
    for i, cell in enumerate(cells):
      _say(f"cell {i + 1}/{len(cells)}: {cell.name}")
      started = time.monotonic()
      status.mark(cell, status.RUNNING)
      exit_status = signals.run(sweep.command(cell))
      status.mark(cell, str(exit_status))
      ended = "done" if status.is_done(cell) else f"ended with status {exit_status}, and is not done"
      _say(f"cell {i + 1}/{len(cells)}: {ended} after {time.monotonic() - started:.0f} s")
      if ended != "done":
        unfinished.append(cell)
      if signals.received is not None:
        break
  return unfinished, signals.received


class _Signals:
  """Context in which SIGINT and SIGTERM are remembered instead of ending this process."""

  def __init__(self):
    self.received: int | None = None
    self._process: subprocess.Popen | None = None

  def __enter__(self) -> "_Signals":
    self._previous = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def run(self, command: Sequence[str]) -> int:
    """Exit status as shells report it: 128 + the number of the signal that killed it."""
    if self.received is not None:
      return 128 + self.received
    try:
      self._process = subprocess.Popen(command, cwd=ROOT)
    except OSError as error:
      _say(f"{command[0]} cannot be started: {error.strerror}")
      return 127  # as a shell says it
    code = self._process.wait()
    return code if code >= 0 else 128 - code

  def _handle(self, number: int, frame) -> None:
    self.received = number
    if number == signal.SIGTERM and self._process is not None and self._process.poll() is None:
      self._process.send_signal(number)


def _say(text: str) -> None:
  print(f"» {text}", file=sys.stderr, flush=True)
