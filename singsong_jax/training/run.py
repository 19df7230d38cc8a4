"""One process's part of a training run: step, record, evaluate, save, stop."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import distributed
from singsong_jax.training.checkpoints import Checkpoints
from singsong_jax.training.data import IDS, Batch, DataIterator
from singsong_jax.training.descriptions import check_same
from singsong_jax.training.interruption import StopRequest, name_of
from singsong_jax.training.metrics import MetricsWriter, SilentWriter, Totals, Tracker
from singsong_jax.training.monitoring import Monitor, Profile
from singsong_jax.training.nonfinite import NonFiniteSteps
from singsong_jax.training.optimizers import Optimizer
from singsong_jax.training.partitioning import Partitioner, num_rows
from singsong_jax.training.progress import Progress
from singsong_jax.training.state import TrainState
from singsong_jax.training.step import Steps, Sums

ENDED_EARLY = "ended_early.txt"  # why, beside the checkpoints; a sweep takes such a run for done
_PROBED_STEPS = (0, 100, 1_000, 10_000, 100_000, 1_000_000)


class Callback(Protocol):
  """What a run calls besides its own work; bound in gin as `train.callbacks`. Both are optional.

  All processes call both, with the same arguments, but only process 0's `writer` writes. What they return,
  the same in every process, is why the run should end now; None lets it go on.
  """

  def on_start(self, model_dir: str, system: System) -> str | None: ...

  def on_eval(self, step: int, params: Any, eval_batch: Batch, writer: MetricsWriter) -> str | None: ...


def run_settings(seed: int, optimizer: Optimizer) -> dict[str, Any]:
  """What a continued run must have in common with its beginning, besides the model and the data."""
  rates = {f"step_{n}": float(f"{optimizer.schedule(n):.4g}") for n in _PROBED_STEPS}
  frozen = {"frozen": optimizer.frozen} if optimizer.frozen else {}
  return {"random_seed": seed, "learning_rate": rates, "optimizer": optimizer.settings, **frozen}


def call(callbacks: Sequence[Callback], event: str, *arguments) -> str | None:
  """Calls what of an event's name the callbacks have; why the run should end, by the first that says so."""
  hooks = [hook for callback in callbacks if (hook := getattr(callback, event, None))]
  return next((reason for reason in [hook(*arguments) for hook in hooks] if reason), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """When things happen, in steps, and other counts; `loop.train` explains the names."""

  total_steps: int
  eval_period: int
  stats_period: int
  checkpoint_period: int
  checkpoints_to_keep: int
  num_microbatches: int

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r}: a whole number of at least 1 is needed")


@dataclasses.dataclass(frozen=True)
class _Unread:
  """A step that may still be computing."""

  step: int
  sums: Sums
  vote: Any  # the largest signal number of all processes
  batch: Batch  # this process's rows, with their ids


class Run:
  """From the newest checkpoint to `total_steps` or a request to stop."""

  def __init__(
    self,
    *,
    directory: pathlib.Path,
    steps: Steps,
    init: Callable[[], TrainState],
    partitioner: Partitioner,
    optimizer: Optimizer,
    schedule: Schedule,
    seed: int,
    data: DataIterator,
    eval_batches: list[Batch],
    checkpoints: Checkpoints,
    nonfinite: NonFiniteSteps,
    callbacks: Sequence[Callback],
    progress: Progress,
    monitor: Monitor,
    profile: Profile | None,
    tracker: Tracker | None,
    retry_seconds: Sequence[float],
    ended_early: str | None = None,
  ):
    """`ended_early`: why a run that is continued had ended already, if it had."""
    self._directory = directory
    self._steps = steps
    self._ended_early = ended_early
    self._init = init
    self._partitioner = partitioner
    self._optimizer = optimizer
    self._schedule = schedule
    self._seed = seed
    self._data = data
    self._eval_batches = eval_batches
    self._checkpoints = checkpoints
    self._nonfinite = nonfinite
    self._callbacks = callbacks
    self._progress = progress
    self._monitor = monitor
    self._profile = profile
    self._tracker = tracker
    self._votes = distributed.Votes() if jax.process_count() > 1 else None
    self._stop_number = 0  # of the signal all processes stop for
    self._unread: _Unread | None = None
    self._num_rows = 0
    self._restore_or_init()
    make_writer = MetricsWriter if distributed.is_main() else SilentWriter
    self._train_writer, self._eval_writer = (
      make_writer(directory, split, self._step, tracker, retry_seconds) for split in ("train", "eval")
    )

  def _restore_or_init(self) -> None:
    restored = self._checkpoints.restore_latest(self._steps.abstract_state, self._data, self._check_meta)
    if restored is None:
      self._step, self._state, self._totals = 0, self._init(), Totals()
      self._saved_step = None
      return
    self._step = self._saved_step = restored.step
    self._state = restored.state
    self._totals = Totals(restored.meta["totals"])
    self._nonfinite.in_a_row = restored.meta.get("nonfinite_in_a_row", 0)
    self._progress.say(f"continuing from step {self._step}")

  @property
  def _settings(self) -> dict[str, Any]:
    return run_settings(self._seed, self._optimizer)

  def _check_meta(self, meta: dict[str, Any]) -> None:
    check_same(meta["settings"], self._settings, self._checkpoints.folder)

  def go(self, stop: StopRequest) -> None:
    """Raises InputError, ConnectionError or OSError where the run cannot go on."""
    if not self._train_writer.has_tensorboard:
      self._progress.say("TensorFlow is not installed: metrics go to metrics/*.jsonl, not to TensorBoard")
    self._progress.start(self._step)
    if not self._ended_early and distributed.is_main():  # it may go on where it had ended
      (self._directory / ENDED_EARLY).unlink(missing_ok=True)
    try:
      with distributed.explaining_losses():
        while not self._is_done and not self._stopped_by(stop):
          self._advance(stop)
          self._after_step()
        self._finish()
    finally:
      self._close()

  def _close(self) -> None:
    with contextlib.ExitStack() as stack:  # one that fails keeps no other from closing
      for part in (self._tracker, self._eval_writer, self._train_writer, self._profile, self._progress):
        if part:
          stack.callback(part.close)

  def _stopped_by(self, stop: StopRequest) -> int:
    if self._votes is None:
      self._stop_number = stop.number
    return self._stop_number

  def _advance(self, stop: StopRequest) -> None:
    if self._profile:
      self._profile.before_step()
    with self._monitor.waiting(self._unread and self._unread.sums):
      batch = next(self._data, None)
    if batch is None:
      raise InputError(f"the training data ended after {self._step} steps; it must repeat")
    first = not self._num_rows
    if first:
      self._num_rows = num_rows(batch) * self._partitioner.batch_part[1]
      self._partitioner.check_batch_size(self._num_rows, self._schedule.num_microbatches)
      self._progress.say("compiling the training step …")
      started = time.perf_counter()
    rows = {name: array for name, array in batch.items() if name != IDS}
    self._state, sums = self._steps.train(self._state, self._partitioner.put_part(rows))
    vote = self._votes.cast(stop.number) if self._votes else 0
    self._step += 1
    self._read_sums()  # of the step before, while this one computes: never more than one ahead
    self._unread = _Unread(self._step, sums, vote, batch)
    if first:
      self._read_sums()
      self._progress.say(f"compiled, and did the first step, in {time.perf_counter() - started:.1f} s")
    self._monitor.lap()
    self._monitor.resume()
    self._progress.advance()
    if self._profile and self._profile.ends_with_this_step:
      self._monitor.pause()
      self._profile.end(sums)
      self._progress.say(f"profile of {self._profile.num_steps} steps: {self._profile.folder}")
      self._monitor.resume()

  def _read_sums(self) -> None:
    if self._unread is None:
      return
    unread, self._unread = self._unread, None
    sums, vote = jax.device_get((unread.sums, unread.vote))
    if self._votes:
      self._stop_number = int(vote)
    counted, warning = self._nonfinite.judge(unread.step, sums, unread.batch)
    if warning:
      self._progress.say(warning)
    self._totals.add(counted, unread.step)

  def _after_step(self) -> None:
    schedule, step = self._schedule, self._step
    if step == 1 or step % schedule.stats_period == 0:
      self._report()
    if step < schedule.total_steps:
      if step % schedule.eval_period == 0:
        self._evaluate()
      failure = self._checkpoints.failure()
      if failure:
        self._progress.say(f"WARNING: {failure}. Writing step {step} instead")
      if failure or step % schedule.checkpoint_period == 0:
        self._save()

  def _report(self) -> None:
    """Records the means since the last record."""
    self._read_sums()
    self._monitor.pause()
    means = self._totals.means()
    means["learning_rate"] = float(self._optimizer.schedule(self._step - 1))
    means |= self._monitor.take(self._num_rows, self._totals.tokens_per_step())
    self._totals = Totals()
    self._train_writer.write_scalars(self._step, means)
    self._progress.report(self._step, means)
    self._monitor.resume()

  def _evaluate(self) -> None:
    if not self._eval_batches:
      return
    self._read_sums()
    self._monitor.pause()
    totals = Totals()
    for batch in self._eval_batches:
      totals.add(self._steps.evaluate(self._state.params, self._partitioner.put_batch(batch)), self._step)
    means = totals.means()
    self._eval_writer.write_scalars(self._step, means)
    self._progress.say(f"step {self._step}  eval loss {means['loss']:.4f}")
    self._ended_early = call(
      self._callbacks, "on_eval", self._step, self._state.params, self._eval_batches[0], self._eval_writer
    )
    self._monitor.resume()

  def _save(self) -> None:
    self._read_sums()  # raises on a loss that is not finite, which must not be saved
    self._monitor.pause()
    meta = {
      "settings": self._settings,
      "totals": self._totals.sums,
      "nonfinite_in_a_row": self._nonfinite.in_a_row,
    }
    self._checkpoints.save(self._step, self._state, self._data, meta)
    self._saved_step = self._step
    self._monitor.resume()

  @property
  def _is_done(self) -> bool:
    return self._step >= self._schedule.total_steps or bool(self._ended_early)

  def _finish(self) -> None:
    done = self._is_done
    if done and not self._ended_early:
      self._evaluate()
    if self._saved_step != self._step or self._checkpoints.failure(wait=True):
      self._save()
    self._checkpoints.wait()
    if self._ended_early and distributed.is_main():
      files.write_text(self._directory / ENDED_EARLY, f"{self._ended_early}\n")
    if done:
      self._progress.say(
        f"done: {self._step} steps" + (f"; {self._ended_early}" if self._ended_early else "")
      )
    else:
      self._progress.say(
        f"{name_of(self._stop_number)}: saved at step {self._step}; the same command goes on from there"
      )
