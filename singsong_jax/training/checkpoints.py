"""Checkpoints of a run, with Orbax: written in the background, appearing whole or not at all.

<model_dir>/model.json              system.describe(), without which parameters mean nothing
<model_dir>/checkpoints/<step>/     params, opt_state (arrays); data, meta (JSON)
"""

import base64
import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training.state import TrainState

FOLDER = "checkpoints"
MODEL_FILE = "model.json"


@dataclasses.dataclass(frozen=True)
class Restored:
  """One checkpoint.

  Attributes:
    data_state: position of the training data.
    meta: JSON-able facts saved along.
  """

  step: int
  state: TrainState
  data_state: bytes
  meta: dict[str, Any]


class Checkpoints:
  """The checkpoints of one training run. A context manager: leaving it waits for the last write.

  Args:
    model_dir: absolute.
    keep: number of newest checkpoints to keep.
  """

  def __init__(self, model_dir: str | os.PathLike, keep: int):
    self.folder = pathlib.Path(model_dir) / FOLDER
    with _as_input_error(self.folder, "use"):
      self._manager = _manager(self.folder, max_to_keep=keep, create=True, cleanup_tmp_directories=True)

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind, error, traceback) -> None:
    if error is None:
      self.wait()
    with contextlib.suppress(Exception if error else ()):  # the error on its way out says more
      self._manager.close()

  def save(self, step: int, state: TrainState, data_state: bytes, meta: dict[str, Any]) -> None:
    """Starts to write; returns when the arrays are copied and may be donated."""
    self._check_space((state.params, state.opt_state))
    items = ocp.args.Composite(
      params=ocp.args.StandardSave(state.params),
      opt_state=ocp.args.StandardSave(state.opt_state),
      data=ocp.args.JsonSave({"base64": base64.b64encode(data_state).decode()}),
      meta=ocp.args.JsonSave(meta),
    )
    with _as_input_error(self.folder, "write"):
      self._manager.save(step, args=items, force=True)

  def _check_space(self, arrays: Any) -> None:
    """A disk that fills up while Orbax's threads write makes them print pages of tracebacks."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    free = shutil.disk_usage(self.folder).free
    if free < needed:
      raise InputError(f"cannot write {self.folder}: {needed:,} bytes are needed and {free:,} are free")

  def wait(self) -> None:
    """Returns when everything is on disk. Raises InputError if it could not be written."""
    with _as_input_error(self.folder, "write"):
      self._manager.wait_until_finished()

  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  def restore_latest(self, abstract_state: TrainState) -> Restored | None:
    """The newest readable checkpoint, or None if there is none at all.

    Newer ones that cannot be read are reported and moved to `unreadable_checkpoints/`.

    Args:
      abstract_state: shapes, types and shardings to restore to; any mesh will do.

    Raises:
      InputError: there are checkpoints, and none can be read.
    """
    failures: dict[int, str] = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        restored = self._restore(step, abstract_state)
      except Exception as error:  # Orbax and tensorstore have many ways to say "corrupt"
        failures[step] = _first_line(error)
        continue
      self._set_aside(failures)
      return restored
    if failures:
      step, reason = next(iter(failures.items()))
      raise InputError(f"no checkpoint in {self.folder} can be read; step {step}: {reason}")
    return None

  def _restore(self, step: int, abstract_state: TrainState) -> Restored:
    items = ocp.args.Composite(
      params=ocp.args.StandardRestore(abstract_state.params),
      opt_state=ocp.args.StandardRestore(abstract_state.opt_state),
      data=ocp.args.JsonRestore(),
      meta=ocp.args.JsonRestore(),
    )
    saved = self._manager.restore(step, args=items)
    count = jax.device_put(jnp.asarray(step, jnp.int32), abstract_state.step.sharding)
    state = TrainState(count, saved.params, saved.opt_state)
    return Restored(step, state, base64.b64decode(saved.data["base64"]), saved.meta)

  def _set_aside(self, failures: dict[int, str]) -> None:
    for step, reason in failures.items():
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
  if not (model_dir / MODEL_FILE).is_file():
    raise InputError(f"{model_dir} is not a model directory: it has no {MODEL_FILE}")
  system = build_system(files.read_json(model_dir / MODEL_FILE))
  steps = _steps(model_dir / FOLDER)
  if not steps:
    raise InputError(f"{model_dir} holds no checkpoint yet; train it first")
  step = steps[-1] if step is None else step
  if step not in steps:
    raise InputError(f"{model_dir} has no checkpoint of step {step}; it has {_listed(steps)}")
  return system, _restore_params(model_dir / FOLDER, step, system), step


def newest_step(model_dir: pathlib.Path) -> int | None:
  """Step of the newest complete checkpoint; None where there is none."""
  return max(_steps(model_dir / FOLDER), default=None)


def _steps(folder: pathlib.Path) -> list[int]:
  """Complete checkpoints, ascending: Orbax renames a folder to its step only when it is whole."""
  return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def _restore_params(folder: pathlib.Path, step: int, system: System) -> Any:
  sharding = SingleDeviceSharding(jax.devices()[0])
  abstract = nn.unbox(jax.eval_shape(system.init, jax.random.key(0)))
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract)
  with _manager(folder, read_only=True, create=False, save_interval_steps=0) as manager:
    try:
      _check_shapes(manager.item_metadata(step).params, abstract)
      return manager.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract))).params
    except Exception as error:
      raise InputError(
        f"checkpoint {folder / str(step)} cannot be read as the model of {MODEL_FILE}: {_first_line(error)}"
      ) from error


def _check_shapes(saved: Any, wanted: Any) -> None:
  """Raises ValueError naming the first array whose shape differs."""
  shapes = [
    {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    for tree in (saved.tree if hasattr(saved, "tree") else saved, wanted)
  ]
  for name in sorted(shapes[0].keys() | shapes[1].keys()):
    if shapes[0].get(name) != shapes[1].get(name):
      raise ValueError(f"{name} has shape {shapes[0].get(name)}, the model wants {shapes[1].get(name)}")


def write_description(model_dir: pathlib.Path, system: System) -> None:
  """Writes `model.json`, which every later checkpoint depends on."""
  files.write_json(model_dir / MODEL_FILE, system.describe())


def check_description(model_dir: pathlib.Path, system: System) -> None:
  """Raises InputError if `model.json` describes another system; the message lists what differs."""
  path = model_dir / MODEL_FILE
  check_same(files.read_json(path), system.describe(), path)


# Settings of how a model is computed, not of what it computes: they may change from machine to machine.
_HOW = {"network.dtype", "network.remat"}


def check_same(saved: dict[str, Any], wanted: dict[str, Any], where: str | os.PathLike) -> None:
  """Raises InputError listing the settings whose values differ."""
  old, new = _flat(saved), _flat(wanted)
  names = sorted((old.keys() | new.keys()) - _HOW)
  differing = [f"{k} was {old.get(k)!r}, now {new.get(k)!r}" for k in names if old.get(k) != new.get(k)]
  if differing:
    raise InputError(
      f"{where} was trained with other settings ({'; '.join(differing)}); give those again, or another "
      "model_dir"
    )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  """Nested dictionaries as one with dotted keys; tuples as the lists they are in JSON."""
  if not isinstance(tree, dict):
    return {prefix: list(tree) if isinstance(tree, tuple) else tree}
  flat = {}
  for key, value in tree.items():
    flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
  return flat


def _listed(steps: list[int]) -> str:
  return ", ".join(map(str, steps))


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return (lines[0] if lines else type(error).__name__)[:300]


def _manager(folder: pathlib.Path, **options) -> ocp.CheckpointManager:
  handlers = {
    "params": ocp.StandardCheckpointHandler(),
    "opt_state": ocp.StandardCheckpointHandler(),
    "data": ocp.JsonCheckpointHandler(),
    "meta": ocp.JsonCheckpointHandler(),
  }
  return ocp.CheckpointManager(
    folder, options=ocp.CheckpointManagerOptions(**options), item_handlers=handlers
  )


@contextlib.contextmanager
def _as_input_error(folder: pathlib.Path, verb: str) -> Iterator[None]:
  """A full disk surfaces as an OSError or, out of tensorstore's threads, as several other types."""
  try:
    yield
  except Exception as error:
    raise InputError(f"cannot {verb} {folder}: {_first_line(error)}") from error
