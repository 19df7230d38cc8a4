"""What a run records: exact JSON lines, TensorBoard, and means that survive a restart."""

import json
import math
import pathlib
from typing import Any

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
          "from it with a lower learning rate, or look for broken data"
        )
      pair = self.sums.setdefault(name, [0.0, 0.0])
      pair[0] += float(total)
      pair[1] += float(weight)

  def means(self) -> Means:
    """Sum / weight, of what has a weight."""
    return {name: total / weight for name, (total, weight) in self.sums.items() if weight}

  def tokens_per_step(self) -> float:
    """Mean number of target tokens; a norm's weight counts the steps."""
    return self.sums["loss"][1] / self.sums["gradient_norm"][1]


class MetricsWriter:
  """Writes one split's metrics: `metrics/<split>.jsonl`, and TensorBoard where TensorFlow is installed.

  Args:
    split: 'train' or 'eval'.
    last_step: records of later steps are dropped, they are about to be made again.
  """

  def __init__(self, model_dir: pathlib.Path, split: str, last_step: int):
    self._path = model_dir / "metrics" / f"{split}.jsonl"
    _truncate(self._path, last_step)
    self._lines = open(self._path, "a", encoding="utf-8")
    self._tensorboard = _tensorboard_writer(model_dir / "tensorboard" / split)

  @property
  def has_tensorboard(self) -> bool:
    return self._tensorboard is not None

  def write_scalars(self, step: int, scalars: Means) -> None:
    """Appends a JSON line with full float precision, on disk when this returns."""
    self._lines.write(json.dumps({"step": step, **scalars}) + "\n")
    self._lines.flush()
    if self._tensorboard:
      self._tensorboard.write_scalars(step, scalars)
      self._tensorboard.flush()

  def write_audios(self, step: int, audios: dict[str, np.ndarray], *, sample_rate: int) -> None:
    """Audio `[B, samples, channels]` within ±1, to TensorBoard only."""
    if self._tensorboard:
      self._tensorboard.write_audios(step, audios, sample_rate=sample_rate)
      self._tensorboard.flush()

  def close(self) -> None:
    self._lines.close()
    if self._tensorboard:
      self._tensorboard.close()


def _tensorboard_writer(folder: pathlib.Path):
  try:
    from clu.metric_writers import SummaryWriter  # imports TensorFlow
  except ImportError:
    return None
  return SummaryWriter(str(folder))


def _truncate(path: pathlib.Path, last_step: int) -> None:
  """Keeps the whole records up to `last_step`; a kill can leave half a line."""
  lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
  kept = [line for line in lines if -1 < _step_of(line) <= last_step]
  files.write_text(path, "".join(line + "\n" for line in kept))


def _step_of(line: str) -> int:
  try:
    return json.loads(line)["step"]
  except ValueError:
    return -1
