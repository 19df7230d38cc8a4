"""What a run records: exact JSON lines, TensorBoard, and means that survive a restart."""

import json
import math
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError

Means = dict[str, float]


class Totals:
  """Sums and weights since the last report.

  Kept in float64 and in step order, and saved with every checkpoint, so that a mean over steps before
  and after a restart is the uninterrupted run's to the last bit.
  """

  def __init__(self, sums: dict[str, list[float]] | None = None):
    self.sums = {name: list(pair) for name, pair in (sums or {}).items()}

  def add(self, sums: Any, step: int) -> None:
    """Adds a tree `name → (sum, weight)` of scalars on a device; waits for them.

    Raises:
      InputError: the sum of the losses or a norm is not a number, at `step`.
    """
    for name, (total, weight) in jax.device_get(sums).items():
      if not math.isfinite(total):
        raise InputError(
          f"{name} is {float(total)} at step {step}: stopped. The last checkpoint is from before; go on "
          "from it, or look for broken data"
        )
      pair = self.sums.setdefault(name, [0.0, 0.0])
      pair[0] += float(total)
      pair[1] += float(weight)

  def means(self) -> Means:
    """Sum / weight, of what has a weight."""
    return {name: total / weight for name, (total, weight) in self.sums.items() if weight}

  def tokens_per_step(self) -> float:
    """Mean number of target tokens; a norm's weight counts the steps. 0 where every step was skipped."""
    tokens, steps = (self.sums.get(name, (0.0, 0.0))[1] for name in ("loss", "gradient_norm"))
    return tokens / steps if steps else 0.0


class Tracker(Protocol):
  """Another place for the same metrics; process 0 alone calls it. See `weights_and_biases`."""

  def start(self, model_dir: pathlib.Path, config: dict[str, Any]) -> None: ...

  def log(self, split: str, step: int, values: Means) -> None: ...

  def log_audios(self, split: str, step: int, audios: dict[str, np.ndarray], sample_rate: int) -> None: ...

  def close(self) -> None: ...


class MetricsWriter:
  """Writes one split's metrics: `metrics/<split>.jsonl`, and TensorBoard where TensorFlow is installed.

  Args:
    split: 'train' or 'eval'.
    last_step: records of later steps are dropped, they are about to be made again.
    tracker: gets everything too.
    retry_seconds: pauses before a line that could not be written is tried again.
  """

  def __init__(
    self,
    model_dir: pathlib.Path,
    split: str,
    last_step: int,
    tracker: Tracker | None = None,
    retry_seconds: Sequence[float] = (),
  ):
    self._split = split
    self._tracker = tracker
    self._retry_seconds = retry_seconds
    self._path = model_dir / "metrics" / f"{split}.jsonl"
    self._size = _truncate(self._path, last_step)
    self._tensorboard = _tensorboard_writer(model_dir / "tensorboard" / split)

  @property
  def has_tensorboard(self) -> bool:
    return self._tensorboard is not None

  def write_scalars(self, step: int, scalars: Means) -> None:
    """Appends a JSON line with full float precision, in the file when this returns.

    Raises:
      InputError: it could not be written, however often it was tried.
    """
    self._append((json.dumps({"step": step, **scalars}) + "\n").encode())
    if self._tensorboard:
      self._tensorboard.write_scalars(step, scalars)
      self._tensorboard.flush()
    if self._tracker:
      self._tracker.log(self._split, step, scalars)

  def _append(self, line: bytes) -> None:
    for seconds in (*self._retry_seconds, None):
      try:
        with open(self._path, "r+b") as file:
          file.truncate(self._size)  # half a line of the last try
          file.seek(self._size)
          file.write(line)
        self._size += len(line)
        return
      except OSError as error:
        failure = f"cannot write {self._path}: {error.strerror or error}"
      if seconds is not None:
        print(f"WARNING: {failure}. Trying again in {seconds} s", file=sys.stderr, flush=True)
        time.sleep(seconds)
    raise InputError(failure)

  def write_audios(self, step: int, audios: dict[str, np.ndarray], *, sample_rate: int) -> None:
    """Audio `[B, samples, channels]` within ±1, to TensorBoard and the tracker."""
    if self._tensorboard:
      self._tensorboard.write_audios(step, audios, sample_rate=sample_rate)
      self._tensorboard.flush()
    if self._tracker:
      self._tracker.log_audios(self._split, step, audios, sample_rate)

  def close(self) -> None:
    if self._tensorboard:
      self._tensorboard.close()


class SilentWriter:
  """The writer of processes other than the first: what they would write is written already."""

  has_tensorboard = True

  def __init__(self, *_): ...

  def write_scalars(self, step: int, scalars: Means) -> None: ...

  def write_audios(self, step: int, audios: dict[str, np.ndarray], *, sample_rate: int) -> None: ...

  def close(self) -> None: ...


def _tensorboard_writer(folder: pathlib.Path):
  try:
    from clu.metric_writers import SummaryWriter  # imports TensorFlow
  except ImportError:
    return None
  return SummaryWriter(str(folder))


def _truncate(path: pathlib.Path, last_step: int) -> int:
  """Keeps the whole records up to `last_step`; a kill can leave half a line. Bytes kept."""
  lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
  kept = [line for line in lines if -1 < _step_of(line) <= last_step]
  files.write_text(path, "".join(line + "\n" for line in kept))
  return path.stat().st_size


def _step_of(line: str) -> int:
  try:
    return json.loads(line)["step"]
  except ValueError:
    return -1
