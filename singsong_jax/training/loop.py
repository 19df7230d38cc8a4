"""The training run: restore, step, record, evaluate, save, stop."""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

import gin
import jax
import optax

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import checkpoints as checkpoints_lib
from singsong_jax.training.checkpoints import Checkpoints, check_same
from singsong_jax.training.data import Batch, DataIterator, EvalDataset, TrainDataset
from singsong_jax.training.interruption import StopRequest
from singsong_jax.training.metrics import MetricsWriter, Totals
from singsong_jax.training.optimizers import Optimizer
from singsong_jax.training.partitioning import Partitioner, num_rows
from singsong_jax.training.progress import Progress, Stopwatch
from singsong_jax.training.state import count_parameters
from singsong_jax.training.step import Steps, Sums


class Callback(Protocol):
  """What a run calls besides its own work; bound in gin as `train.callbacks`. Both are optional."""

  def on_start(self, model_dir: str, system: System) -> None: ...

  def on_eval(self, step: int, params: Any, eval_batch: Batch, writer: MetricsWriter) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """When things happen, in steps, and other counts; `train` explains the names."""

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


@gin.configurable
def train(
  *,
  model_dir: str,
  system: System,
  optimizer: Optimizer,
  train_dataset: TrainDataset,
  eval_dataset: EvalDataset | None = None,
  total_steps: int,
  eval_period: int,
  stats_period: int,
  checkpoint_period: int,
  eval_steps: int | None = None,
  checkpoints_to_keep: int = 3,
  random_seed: int = 0,
  num_partitions: int = 1,
  num_microbatches: int = 1,
  callbacks: Sequence[Callback] = (),
  dry_run: bool = False,
) -> None:
  """Trains `system`, or continues: with the same arguments a run can be stopped at any moment.

  Args:
    model_dir: everything is written into it; its newest checkpoint is where the run continues.
    system: what is trained.
    optimizer: see `optimizers.adafactor`.
    train_dataset: makes the training data; only called when there are steps to do.
    eval_dataset: makes the evaluation batches, which are kept.
    total_steps: step at which training ends, counted from the very first one.
    eval_period: steps between evaluations; there is one at the end too.
    stats_period: steps between records of the training metrics, which are means over them. The first
      step has a record of its own.
    checkpoint_period: steps between checkpoints; there is one at the end too.
    eval_steps: at most so many evaluation batches.
    checkpoints_to_keep: the newest ones.
    random_seed: of the parameters and of dropout.
    num_partitions: devices one copy of the model is spread over.
    num_microbatches: parts of a batch that are computed one after another, to save memory.
    callbacks: see `Callback`.
    dry_run: trace everything and count parameters; no data, no memory, no files.

  Raises:
    InputError: settings that do not fit each other, the devices, the data or the model directory; a
      loss that is not finite; a disk that cannot be written.
  """
  schedule = Schedule(
    total_steps=total_steps,
    eval_period=eval_period,
    stats_period=stats_period,
    checkpoint_period=checkpoint_period,
    checkpoints_to_keep=checkpoints_to_keep,
    num_microbatches=num_microbatches,
  )
  partitioner = Partitioner(num_partitions)
  steps = Steps(system, optimizer, partitioner, seed=random_seed, num_microbatches=num_microbatches)
  progress = Progress(total_steps)
  progress.say(f"{count_parameters(steps.abstract_state.params):,} parameters, {partitioner.describe()}")
  if dry_run:
    jax.eval_shape(
      steps.train, steps.abstract_state, system.batch_shapes(partitioner.data_parallelism * num_microbatches)
    )
    progress.say("dry run: the training step traces; nothing was allocated, read or written")
    return
  directory = files.local_folder(model_dir)
  newest = checkpoints_lib.newest_step(directory)
  if newest is not None:
    checkpoints_lib.check_description(directory, system)
    if newest >= total_steps:
      progress.say(f"{directory} is at step {newest} already and total_steps={total_steps}: nothing to do")
      return
  data = train_dataset()  # before anything is written: what is wrong with the data shows here
  eval_batches = list(itertools.islice(eval_dataset(), eval_steps)) if eval_dataset else []
  with StopRequest() as stop, Checkpoints(directory, checkpoints_to_keep) as checkpoints:
    if newest is None:
      checkpoints_lib.write_description(directory, system)
    for callback in callbacks:
      _call(callback, "on_start", str(directory), system)
    run = _Run(
      directory=directory,
      steps=steps,
      partitioner=partitioner,
      num_microbatches=num_microbatches,
      learning_rate=optimizer.schedule,
      schedule=schedule,
      seed=random_seed,
      data=data,
      eval_batches=eval_batches,
      checkpoints=checkpoints,
      callbacks=callbacks,
      progress=progress,
    )
    files.write_text(directory / "config.gin", gin.config_str())  # now that nothing was refused
    run.go(stop)


def _call(callback: Callback, event: str, *arguments) -> None:
  if hook := getattr(callback, event, None):
    hook(*arguments)


class _Run:
  """One process's part of a run: from the newest checkpoint to `total_steps` or a request to stop."""

  def __init__(
    self,
    *,
    directory: pathlib.Path,
    steps: Steps,
    partitioner: Partitioner,
    num_microbatches: int,
    learning_rate: optax.Schedule,
    schedule: Schedule,
    seed: int,
    data: DataIterator,
    eval_batches: list[Batch],
    checkpoints: Checkpoints,
    callbacks: Sequence[Callback],
    progress: Progress,
  ):
    self._steps = steps
    self._partitioner = partitioner
    self._num_microbatches = num_microbatches
    self._learning_rate = learning_rate
    self._schedule = schedule
    self._seed = seed
    self._data = data
    self._eval_batches = eval_batches
    self._checkpoints = checkpoints
    self._callbacks = callbacks
    self._progress = progress
    self._watch = Stopwatch()
    self._unread: tuple[int, Sums] | None = None  # sums of a step that may still be computing
    self._num_rows = 0
    self._restore_or_init()
    self._train_writer = MetricsWriter(directory, "train", self._step)
    self._eval_writer = MetricsWriter(directory, "eval", self._step)

  def _restore_or_init(self) -> None:
    restored = self._checkpoints.restore_latest(self._steps.abstract_state)
    if restored is None:
      self._step, self._state, self._totals = 0, self._steps.init(), Totals()
      self._saved_step = None
      return
    check_same(restored.meta["settings"], self._settings, self._checkpoints.folder)
    self._step = self._saved_step = restored.step
    self._state = restored.state
    self._totals = Totals(restored.meta["totals"])
    self._data.restore(restored.data_state)
    self._progress.say(f"continuing from step {self._step}")

  @property
  def _settings(self) -> dict[str, int]:
    """What a continued run must have in common with its beginning, besides the model."""
    return {"random_seed": self._seed}

  def go(self, stop: StopRequest) -> None:
    if not self._train_writer.has_tensorboard:
      self._progress.say("TensorFlow is not installed: metrics go to metrics/*.jsonl, not to TensorBoard")
    self._progress.start(self._step)
    try:
      while self._step < self._schedule.total_steps and not stop.signal_name:
        self._advance()
        self._after_step()
      self._finish(stop)
    finally:
      self._progress.close()
      self._train_writer.close()
      self._eval_writer.close()

  def _advance(self) -> None:
    batch = next(self._data, None)
    if batch is None:
      raise InputError(f"the training data ended after {self._step} steps; it must repeat")
    first = not self._num_rows
    if first:
      self._partitioner.check_batch_size(batch, self._num_microbatches)
      self._num_rows = num_rows(batch)
      self._progress.say("compiling the training step …")
      started = time.perf_counter()
    self._state, sums = self._steps.train(self._state, self._partitioner.put_batch(batch))
    self._step += 1
    self._read_sums()  # of the step before, while this one computes: never more than one ahead
    self._unread = (self._step, sums)
    if first:
      self._read_sums()
      self._progress.say(f"compiled, and did the first step, in {time.perf_counter() - started:.1f} s")
    self._watch.lap()
    self._watch.resume()
    self._progress.advance()

  def _read_sums(self) -> None:
    if self._unread is not None:
      step, sums = self._unread
      self._unread = None
      self._totals.add(sums, step)

  def _after_step(self) -> None:
    schedule, step = self._schedule, self._step
    if step == 1 or step % schedule.stats_period == 0:
      self._report()
    if step < schedule.total_steps:
      if step % schedule.eval_period == 0:
        self._evaluate()
      if step % schedule.checkpoint_period == 0:
        self._save()

  def _report(self) -> None:
    """Records the means since the last record."""
    self._read_sums()
    self._watch.pause()
    means, tokens = self._totals.means(), self._totals.tokens_per_step()
    means["learning_rate"] = float(self._learning_rate(self._step - 1))
    if rate := self._watch.take_rate():
      means |= {
        "steps_per_second": rate,
        "examples_per_second": rate * self._num_rows,
        "tokens_per_second": rate * tokens,
      }
    self._totals = Totals()
    self._train_writer.write_scalars(self._step, means)
    self._progress.report(self._step, means)
    self._watch.resume()

  def _evaluate(self) -> None:
    if not self._eval_batches:
      return
    self._read_sums()
    self._watch.pause()
    totals = Totals()
    for batch in self._eval_batches:
      totals.add(self._steps.evaluate(self._state.params, self._partitioner.put_batch(batch)), self._step)
    means = totals.means()
    self._eval_writer.write_scalars(self._step, means)
    self._progress.say(f"step {self._step}  eval loss {means['loss']:.4f}")
    for callback in self._callbacks:
      _call(callback, "on_eval", self._step, self._state.params, self._eval_batches[0], self._eval_writer)
    self._watch.resume()

  def _save(self) -> None:
    self._read_sums()  # raises on a loss that is not finite, which must not be saved
    self._watch.pause()
    meta = {"settings": self._settings, "totals": self._totals.sums}
    self._checkpoints.save(self._step, self._state, self._data.state(), meta)
    self._saved_step = self._step
    self._watch.resume()

  def _finish(self, stop: StopRequest) -> None:
    done = self._step >= self._schedule.total_steps
    if done:
      self._evaluate()
    if self._saved_step != self._step:
      self._save()
    self._checkpoints.wait()
    if done:
      self._progress.say(f"done: {self._step} steps")
    else:
      self._progress.say(
        f"{stop.signal_name}: saved at step {self._step}; the same command goes on from there"
      )
