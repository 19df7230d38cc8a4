"""Checkpoints of a run, with Orbax: written in the background, appearing whole or not at all.

<model_dir>/model.json              system.describe(), without which parameters mean nothing
<model_dir>/checkpoints/<step>/     params, opt_state (arrays); data (one file a reader); meta (JSON)
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import checkpoint_items, distributed
from singsong_jax.training.data import DataIterator
from singsong_jax.training.descriptions import MODEL_FILE
from singsong_jax.training.state import TrainState

FOLDER = "checkpoints"
_POLL_SECONDS = 0.02
_WRITING = "writing"
_READ_RETRIES = 2  # of a disk that fails; what is corrupt stays so


@dataclasses.dataclass(frozen=True)
class Restored:
  """One checkpoint.

  Attributes:
    meta: JSON-able facts saved along.
  """

  step: int
  state: TrainState
  meta: dict[str, Any]


class Checkpoints:
  """The checkpoints of one training run, of all its processes. Leaving the context waits for the last write.

  Args:
    model_dir: absolute, and the same folder for all processes.
    keep: number of newest checkpoints to keep.
    retry_seconds: pauses before a write that failed is tried again.
  """

  def __init__(self, model_dir: str | os.PathLike, keep: int, retry_seconds: Sequence[float] = ()):
    self._retry_seconds = retry_seconds
    self.folder = pathlib.Path(model_dir) / FOLDER
    with _as_input_error(self.folder, "use"):
      self.folder.mkdir(parents=True, exist_ok=True)
      self._errors: list[Exception] = []  # of this process's writes
      self._manager = _manager(self.folder, self._errors, max_to_keep=keep, cleanup_tmp_directories=True)

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind, error, traceback) -> None:
    if error is None:
      self.wait()
    elif jax.process_count() > 1:
      return  # closing waits for the other processes; this one must end for them to learn of the error
    with contextlib.suppress(Exception if error else ()):  # the error on its way out says more
      self._manager.close()

  def save(self, step: int, state: TrainState, data: DataIterator, meta: dict[str, Any]) -> None:
    """Starts to write; returns when the arrays are copied and may be donated.

    A write that fails is tried again, and then it is on disk on return.

    Raises:
      InputError: it failed every time. Earlier checkpoints are as they were.
    """
    failure = self._try_to_save(step, state, data, meta)
    for seconds in self._retry_seconds:
      if not failure:
        return
      print(f"WARNING: {failure}. Trying again in {seconds} s", file=sys.stderr, flush=True)
      time.sleep(seconds)
      failure = self._try_to_save(step, state, data, meta) or self.failure(wait=True)
    if failure:
      raise InputError(failure)

  def failure(self, wait: bool = False) -> str | None:
    """Why the last write failed, told once; None if it did not, or not yet.

    Args:
      wait: until the write is over; all processes must do so together.

    Raises:
      InputError: it failed, and there are several processes, which Orbax would let wait for one another.
    """
    try:
      with _as_input_error(self.folder, "write"):
        while self._is_writing(wait) and wait:
          time.sleep(_POLL_SECONDS)
    except InputError as error:
      return self._clean_up(error)
    return None

  def _is_writing(self, together: bool) -> bool:
    """Raises what went wrong, on this process or on any of those that ask `together`."""
    writing = self._manager.is_saving_in_progress()
    if jax.process_count() > 1:
      state = _first_line(self._errors[0]) if self._errors else _WRITING if writing else ""
      states = distributed.gather(state) if together else [state]
      for failure in set(states) - {"", _WRITING}:
        raise RuntimeError(failure)
      writing = _WRITING in states
    if not writing:
      self._manager.wait_until_finished()
    return writing

  def _try_to_save(
    self, step: int, state: TrainState, data: DataIterator, meta: dict[str, Any]
  ) -> str | None:
    """Why it failed; None if it did not, or not yet."""
    failure = self.failure(wait=True) or self._no_space((state.params, state.opt_state))
    if failure:
      return failure
    try:
      with _as_input_error(self.folder, "write"):
        items = ocp.args.Composite(
          params=ocp.args.StandardSave(state.params),
          opt_state=ocp.args.StandardSave(state.opt_state),
          data=checkpoint_items.SavePositions(checkpoint_items.position_of(data)),
          meta=ocp.args.JsonSave(meta),
        )
        self._manager.save(step, args=items, force=True)
    except InputError as error:
      return self._clean_up(error)
    return None

  def _clean_up(self, error: InputError) -> str:
    """Half a checkpoint takes space, and Orbax still counts it."""
    if jax.process_count() > 1:
      raise error
    self._errors.clear()
    with contextlib.suppress(OSError):  # a disk that does not answer; the next write meets it again
      for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path, ignore_errors=True)
      self._manager.reload()
    return str(error)

  def _no_space(self, arrays: Any) -> str | None:
    """A disk that fills up while Orbax's threads write makes them print pages of tracebacks."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    try:
      free = shutil.disk_usage(self.folder).free
      reason = f"{needed:,} bytes are needed and {free:,} are free" if free < needed else ""
    except OSError as error:
      reason = error.strerror or str(error)
    # A disk that others fill may look different to each process: all take the first one's reason.
    reason = next(filter(None, distributed.gather(reason)), "")
    return f"cannot write {self.folder}: {reason}" if reason else None

  def wait(self) -> None:
    """Returns when everything is on disk. Raises InputError if it could not be written."""
    if failure := self.failure(wait=True):
      raise InputError(failure)

  def restore_latest(
    self, abstract_state: TrainState, data: DataIterator, check: Callable[[dict[str, Any]], None]
  ) -> Restored | None:
    """The newest checkpoint that all processes can read, and `data` put to its position; None without any.

    Newer ones that cannot be read are reported and moved to `unreadable_checkpoints/`.

    Args:
      abstract_state: shapes, types and shardings to restore to; any mesh will do.
      check: of the `meta` saved along, before anything else is read; raises InputError.

    Raises:
      InputError: there are checkpoints, and none can be read; `check` or `data` refuses one.
    """
    failures: dict[int, str] = {}
    for step in reversed(_steps(self.folder)):
      with distributed.together():  # what `check` refuses in one process ends all
        restored, reason = self._try_to_restore(step, abstract_state, data, check)
      reasons = [text for text in distributed.gather(reason) if text]
      if not reasons:
        self._set_aside(failures)
        return restored
      failures[step] = reasons[0]
    if failures:
      step, reason = next(iter(failures.items()))
      raise InputError(f"no checkpoint in {self.folder} can be read; step {step}: {reason}")
    return None

  def _try_to_restore(self, step, abstract_state, data, check) -> tuple[Restored | None, str]:
    """Without Orbax's manager, whose barriers a process that cannot read would never reach."""
    for seconds in (*self._retry_seconds[:_READ_RETRIES], None):
      try:
        return self._restore(step, abstract_state, data, check), ""
      except InputError:
        raise
      except Exception as error:  # Orbax and tensorstore have many ways to say "corrupt"
        reason = _first_line(error)
        if seconds is None or not isinstance(error, OSError):
          break
        time.sleep(seconds)
    return None, reason

  def _restore(self, step, abstract_state, data, check) -> Restored:
    folder = self.folder / str(step)
    meta = ocp.JsonCheckpointHandler().restore(epath.Path(folder / "meta"))
    check(meta)
    params = checkpoint_items.restore_arrays(folder / "params", abstract_state.params)
    opt_state = checkpoint_items.restore_arrays(folder / "opt_state", abstract_state.opt_state)
    data.restore(folder / "data")
    count = jax.jit(lambda: jnp.asarray(step, jnp.int32), out_shardings=abstract_state.step.sharding)()
    return Restored(step, TrainState(count, params, opt_state), meta)

  def _set_aside(self, failures: dict[int, str]) -> None:
    with distributed.together():
      for step, reason in failures.items() if distributed.is_main() else ():
        target = self.folder.parent / "unreadable_checkpoints" / str(step)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        shutil.move(self.folder / str(step), target)
        print(
          f"WARNING: checkpoint {step} cannot be read and is moved to {target}; going on from the one before "
          f"it. Reason: {reason}",
          file=sys.stderr,
        )
    if failures:
      self._manager.reload()


def load_checkpoint(
  model_dir: str | os.PathLike, step: int | None, build_system: Callable[[dict[str, Any]], System]
) -> tuple[System, Any, int]:
  """Reads a trained model, parameters only, onto the first device.

  Args:
    model_dir: folder a training run wrote.
    step: which checkpoint; None takes the newest.
    build_system: from a description, see `systems.system_from_description`.

  Returns:
    (system, parameters without axis names, step).

  Raises:
    InputError: no such folder, model or checkpoint, or one whose arrays do not fit `model.json`.
  """
  model_dir = pathlib.Path(model_dir).absolute()
  step = find_step(model_dir, step)
  system = build_system(files.read_json(model_dir / MODEL_FILE))
  sharding = SingleDeviceSharding(jax.devices()[0])
  abstract = nn.unbox(jax.eval_shape(system.init, jax.random.key(0)))
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract)
  return system, restore_params(model_dir / FOLDER / str(step), abstract), step


def find_step(model_dir: pathlib.Path, step: int | None) -> int:
  """`step`, or the newest one, if there is a checkpoint of it. Raises InputError otherwise."""
  if not (model_dir / MODEL_FILE).is_file():
    raise InputError(f"{model_dir} is not a model directory: it has no {MODEL_FILE}")
  steps = _steps(model_dir / FOLDER)
  if not steps:
    raise InputError(f"{model_dir} holds no checkpoint yet; train it first")
  step = steps[-1] if step is None else step
  if step not in steps:
    raise InputError(f"{model_dir} has no checkpoint of step {step}; it has {_listed(steps)}")
  return step


def newest_step(model_dir: pathlib.Path) -> int | None:
  """Step of the newest complete checkpoint; None where there is none."""
  return max(_steps(model_dir / FOLDER), default=None)


def _steps(folder: pathlib.Path) -> list[int]:
  """Complete checkpoints, ascending: Orbax renames a folder to its step only when it is whole."""
  return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def restore_params(folder: pathlib.Path, abstract: Any) -> Any:
  """The parameters of one checkpoint's folder.

  Args:
    abstract: shapes, types and shardings to restore to; any mesh will do.

  Raises:
    InputError: it cannot be read, or an array has another name or shape.
  """
  try:
    return checkpoint_items.restore_arrays(folder / "params", abstract)
  except InputError:
    raise
  except Exception as error:
    raise InputError(
      f"checkpoint {folder} cannot be read as the model of {MODEL_FILE}: {_first_line(error)}"
    ) from error


def _listed(steps: list[int]) -> str:
  return ", ".join(map(str, steps))


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return (lines[0] if lines else type(error).__name__)[:300]


def _manager(folder: pathlib.Path, errors: list[Exception], **options) -> ocp.CheckpointManager:
  handlers = {
    "params": ocp.StandardCheckpointHandler(),
    "opt_state": ocp.StandardCheckpointHandler(),
    "data": checkpoint_items.PositionsHandler(),
    "meta": ocp.JsonCheckpointHandler(),
  }
  handlers = {name: checkpoint_items.watched(handler, errors) for name, handler in handlers.items()}
  if jax.process_count() > 1:  # barriers without devices: those are busy training while a thread writes
    everyone = set(range(jax.process_count()))
    options["multiprocessing_options"] = ocp.options.MultiprocessingOptions(active_processes=everyone)
  return ocp.CheckpointManager(
    folder, options=ocp.CheckpointManagerOptions(create=False, **options), item_handlers=handlers
  )


@contextlib.contextmanager
def _as_input_error(folder: pathlib.Path, verb: str) -> Iterator[None]:
  """A full disk surfaces as an OSError or, out of tensorstore's threads, as several other types."""
  try:
    yield
  except Exception as error:
    raise InputError(f"cannot {verb} {folder}: {_first_line(error)}") from error
