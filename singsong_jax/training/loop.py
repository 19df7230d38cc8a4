"""A training run as gin sees it: everything checked and put together, then `run.Run`."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import gin
import jax

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import checkpoints as checkpoints_lib
from singsong_jax.training import descriptions, distributed
from singsong_jax.training.checkpoints import Checkpoints
from singsong_jax.training.data import IDS, Batch, EvalDataset, TrainDataset
from singsong_jax.training.fine_tuning import InitialCheckpoint
from singsong_jax.training.interruption import StopRequest
from singsong_jax.training.metrics import Tracker
from singsong_jax.training.monitoring import Monitor, Profile
from singsong_jax.training.nonfinite import NonFiniteSteps
from singsong_jax.training.optimizers import Optimizer
from singsong_jax.training.partitioning import AxisRule, Partitioner
from singsong_jax.training.progress import Progress
from singsong_jax.training.run import Callback, Run, Schedule, call
from singsong_jax.training.state import TrainState, count_parameters
from singsong_jax.training.step import Steps


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
  retry_seconds: Sequence[float] = (1, 5, 20, 60),
  random_seed: int = 0,
  num_partitions: int = 1,
  fsdp: int = 1,
  additional_axis_rules: Sequence[AxisRule] = (),
  num_microbatches: int = 1,
  on_nonfinite: str = "stop",
  max_skips: int = 10,
  initial: InitialCheckpoint | None = None,
  callbacks: Sequence[Callback] = (),
  tracker: Tracker | None = None,
  profile: bool = False,
  dry_run: bool = False,
) -> None:
  """Trains `system`, or continues: with the same arguments a run can be stopped at any moment.

  Args:
    model_dir: everything is written into it; its newest checkpoint is where the run continues.
    system: what is trained.
    optimizer: see `optimizers.adafactor`.
    train_dataset: makes this process's part of the training data; only called when there are steps to do.
    eval_dataset: makes the evaluation batches, which are kept.
    total_steps: step at which training ends, counted from the very first one.
    eval_period: steps between evaluations; there is one at the end too.
    stats_period: steps between records of the training metrics, which are means over them. The first
      step has a record of its own.
    checkpoint_period: steps between checkpoints; there is one at the end too.
    eval_steps: at most so many evaluation batches.
    checkpoints_to_keep: the newest ones.
    retry_seconds: pauses after which a checkpoint or record that could not be written is tried again.
    random_seed: of the parameters and of dropout.
    num_partitions: devices that share the rows of one copy of the model (t5x's name).
    fsdp: devices a copy's parameters and optimizer are spread over besides.
    additional_axis_rules: see `Partitioner`.
    num_microbatches: parts of a batch that are computed one after another, to save memory.
    on_nonfinite: 'stop', or 'skip' a step whose loss or gradient is not finite: it changes no parameter, and
      is counted in `skipped_share`.
    max_skips: so many such steps in a row stop the run.
    initial: where the parameters of the first step come from, see `fine_tuning.InitialCheckpoint`.
    callbacks: see `Callback`.
    tracker: gets all metrics besides, see `weights_and_biases`.
    profile: trace a few steps, see `monitoring.Profile`.
    dry_run: trace everything and count parameters; no data, no memory, no files.

  Raises:
    InputError: settings that do not fit each other, the devices, the data or the model directory; a
      loss that is not finite; a disk that cannot be written.
    ConnectionError: another process of the run is gone.
  """
  schedule = Schedule(
    total_steps=total_steps,
    eval_period=eval_period,
    stats_period=stats_period,
    checkpoint_period=checkpoint_period,
    checkpoints_to_keep=checkpoints_to_keep,
    num_microbatches=num_microbatches,
  )
  partitioner = Partitioner(num_partitions, fsdp, additional_axis_rules)
  partitioner.check_axes(system.axis_sizes)
  steps = Steps(
    system,
    optimizer,
    partitioner,
    seed=random_seed,
    num_microbatches=num_microbatches,
    skip_nonfinite=on_nonfinite == "skip",
  )
  progress = Progress(total_steps)
  progress.say(f"{count_parameters(steps.abstract_state.params):,} parameters, {partitioner.describe()}")
  if dry_run:
    jax.eval_shape(
      steps.train, steps.abstract_state, system.batch_shapes(partitioner.data_parallelism * num_microbatches)
    )
    progress.say("dry run: the training step traces; nothing was allocated, read or written")
    return
  with distributed.together():
    directory = files.local_folder(model_dir)
    newest = checkpoints_lib.newest_step(directory)
    if newest is not None:
      descriptions.check_description(directory, system)
    elif initial:
      initial.check(system)
  distributed.check_same(f"the newest checkpoint of {directory}", newest)
  if newest is not None and newest >= total_steps:
    progress.say(f"{directory} is at step {newest} already and total_steps={total_steps}: nothing to do")
    return
  nonfinite = NonFiniteSteps(directory, on_nonfinite, max_skips)
  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(StopRequest())
    with distributed.together():  # before anything is written: what is wrong with the data shows here
      data = train_dataset(*partitioner.batch_part)
      eval_batches = (
        list(map(_for_devices, itertools.islice(eval_dataset(), eval_steps))) if eval_dataset else []
      )
    stack.enter_context(_claimed(directory))
    checkpoints = stack.enter_context(Checkpoints(directory, checkpoints_to_keep, retry_seconds))
    if newest is None:
      _describe(directory, system)
    with distributed.together():
      ended_early = call(callbacks, "on_start", str(directory), system)
      if tracker and distributed.is_main():
        tracker.start(directory, system.describe())
    run = Run(
      directory=directory,
      steps=steps,
      init=_initializer(steps, system, initial, progress),
      partitioner=partitioner,
      optimizer=optimizer,
      schedule=schedule,
      seed=random_seed,
      data=data,
      eval_batches=eval_batches,
      checkpoints=checkpoints,
      nonfinite=nonfinite,
      callbacks=callbacks,
      progress=progress,
      monitor=Monitor(system),
      profile=Profile(directory) if profile else None,
      tracker=tracker,
      retry_seconds=retry_seconds,
      ended_early=ended_early,
    )
    if distributed.is_main():  # now that nothing was refused
      files.write_text(directory / "config.gin", gin.config_str())
    run.go(stop)


def _initializer(
  steps: Steps, system: System, initial: InitialCheckpoint | None, progress: Progress
) -> Callable[[], TrainState]:
  """What makes the state of a run that has no checkpoint yet."""
  if not initial:
    return steps.init

  def init() -> TrainState:
    with distributed.together():
      progress.say(f"starting from {initial.check(system)}")
      return initial(steps.init())

  return init


@contextlib.contextmanager
def _claimed(directory: pathlib.Path) -> Iterator[None]:
  """Keeps other runs out of `directory`; process 0 does it for all."""
  with contextlib.ExitStack() as stack:
    with distributed.together():
      files.make_folder(directory)
      if distributed.is_main():
        stack.enter_context(files.locked(directory))
    yield


def _describe(directory: pathlib.Path, system: System) -> None:
  """Writes what the model is; all processes must see it, or they would write checkpoints apart."""
  with distributed.together():
    if distributed.is_main():
      descriptions.write_description(directory, system)
  with distributed.together():
    if not (directory / descriptions.MODEL_FILE).is_file():
      raise InputError(
        f"{directory} is not the folder that process 0 writes: model_dir must be one that all share"
      )


def _for_devices(batch: Batch) -> Batch:
  return {name: array for name, array in batch.items() if name != IDS}
