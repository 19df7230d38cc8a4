"""What happens when a loss or a gradient is no number: stop, or go on without that batch; with evidence."""

import math
import pathlib

import jax
import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.training.data import IDS, Batch

POLICIES = ("stop", "skip")
FOLDER = "nonfinite"
_MAX_DUMPS = 20  # of a run: a batch of the paper's size is some 20 MB
_NAMED_IDS = 8

HostSums = dict[str, tuple[float, float]]  # name → (sum, weight)


class NonFiniteSteps:
  """Judges the sums of each step.

  Args:
    model_dir: `nonfinite/step_<N>/` in it gets the batch (npz) and the sums (JSON) of a bad step, of each
      process.
    policy: 'stop' or 'skip'; the training step must have been made with the same.
    max_skips: so many bad steps in a row stop a run that skips.

  Attributes:
    in_a_row: bad steps up to now; checkpoints keep it.

  Raises:
    InputError: another policy or less than one skip.
  """

  def __init__(self, model_dir: pathlib.Path, policy: str, max_skips: int):
    if policy not in POLICIES:
      raise InputError(f"on_nonfinite={policy!r}: choose one of {', '.join(POLICIES)}")
    if max_skips < 1:
      raise InputError(f"max_skips={max_skips}: at least 1 is needed")
    self._folder = model_dir / FOLDER
    self._skips = policy == "skip"
    self._max_skips = max_skips
    self.in_a_row = 0

  def judge(self, step: int, sums: HostSums, batch: Batch) -> tuple[HostSums, str | None]:
    """What counts of a step's sums, and a warning if it was skipped.

    Args:
      batch: this process's rows of it.

    Raises:
      InputError: a sum is not finite, and the run is to stop.
    """
    bad = {name: total for name, (total, _) in sums.items() if not math.isfinite(total)}
    self.in_a_row = self.in_a_row + 1 if bad else 0
    if not bad:
      return (sums | {"skipped_share": (0.0, 1.0)} if self._skips else sums), None
    name, total = min(bad.items())
    found = f"{name} is {float(total)} at step {step}{self._dump(step, sums, batch)}{_named(batch)}"
    if self._skips and self.in_a_row < self._max_skips:
      return {"skipped_share": (1.0, 1.0)}, f"WARNING: {found}. The step is skipped"
    in_a_row = f" after {self.in_a_row} such steps in a row" if self._skips else ""
    raise InputError(
      f"{found}. Stopped{in_a_row}; the last checkpoint is from before: go on from it with "
      "train.on_nonfinite='skip', look for broken data, or start anew with a lower learning rate"
    )

  def _dump(self, step: int, sums: HostSums, batch: Batch) -> str:
    try:
      return self._write_dump(step, sums, batch)
    except (InputError, OSError) as error:  # what was found matters more
      return f" (no dump: {error})"

  def _write_dump(self, step: int, sums: HostSums, batch: Batch) -> str:
    folder = self._folder / f"step_{step}"
    if len(list(self._folder.glob("*"))) >= _MAX_DUMPS and not folder.exists():
      return ""
    path = folder / f"process_{jax.process_index():05}.npz"
    with files.replacing(path) as temporary:
      np.savez_compressed(temporary, **batch)
    values = {name: [_json_number(total), float(weight)] for name, (total, weight) in sums.items()}
    report = {"step": step, "sums_and_weights": values, IDS: _ids(batch)}
    files.write_json(path.with_suffix(".json"), report)
    return f" (batch and metrics: {folder})"


def _json_number(value: float) -> float | str:
  return float(value) if math.isfinite(value) else str(float(value))


def _ids(batch: Batch) -> list[str]:
  return [bytes(x).decode(errors="replace") for x in batch.get(IDS, ())]


def _named(batch: Batch) -> str:
  ids = _ids(batch)
  if not ids:
    return ""
  more = f" and {len(ids) - _NAMED_IDS} more" if len(ids) > _NAMED_IDS else ""
  return f"; its examples: {', '.join(ids[:_NAMED_IDS])}{more}"
