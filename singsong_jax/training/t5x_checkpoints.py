"""Checkpoints of upstream t5x out of ours, and ours out of t5x's. Both are Orbax's, so none of it needs t5x.

t5x    <folder>/checkpoint_<step>/state    target: parameters; state: step, and v_row, v_col, v, m of each
ours   <model_dir>/checkpoints/<step>/     params; opt_state, in which optax keeps trees v_row, v_col and v
"""

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from singsong_jax.errors import InputError
from singsong_jax.training.state import TrainState

Tree = dict[str, Any]
_PREFIX = "checkpoint_"


def to_t5x(state: TrainState) -> Tree:
  """The state as t5x keeps it, for any system and our Adafactor.

  Raises:
    InputError: another optimizer's state.
  """
  factored = _factored(state.opt_state, state.params)
  param_states = jax.tree.map(
    lambda v_row, v_col, v: {"v_row": v_row, "v_col": v_col, "v": v, "m": np.zeros(1, np.float32)},
    factored.v_row,
    factored.v_col,
    factored.v,
  )
  return {"target": state.params, "state": {"step": state.step, "param_states": param_states}}


def from_t5x(tree: Tree, like: TrainState) -> TrainState:
  """Inverse of `to_t5x`. `like` gives the optimizer's structure: a state, or the shapes of one."""
  step = jnp.asarray(tree["state"]["step"], jnp.int32)
  is_moments = lambda x: isinstance(x, dict) and "v_row" in x
  moment = lambda name: jax.tree.map(lambda x: x[name], tree["state"]["param_states"], is_leaf=is_moments)
  factored = optax.FactoredState(step, moment("v_row"), moment("v_col"), moment("v"))
  _factored(like.opt_state, like.params)
  opt_state = jax.tree.map(
    lambda x: factored if _is_factored(x) else step,  # besides the moments there are counts of steps only
    like.opt_state,
    is_leaf=_is_factored,
  )
  return TrainState(step, tree["target"], opt_state)


def _is_factored(x: Any) -> bool:
  return isinstance(x, optax.FactoredState)


def _factored(opt_state: Any, params: Any) -> optax.FactoredState:
  leaves = jax.tree.leaves(opt_state, is_leaf=_is_factored)
  found = [leaf for leaf in leaves if _is_factored(leaf)]
  arrays = [leaf for leaf in leaves if not _is_factored(leaf) and leaf.shape]
  if len(found) != 1 or arrays or jax.tree.structure(found[0].v) != jax.tree.structure(params):
    raise InputError(
      "the optimizer keeps other state than t5x's Adafactor; convert with train.optimizer = @adafactor()"
    )
  return found[0]


def write_t5x(folder: str | os.PathLike, state: TrainState) -> pathlib.Path:
  """Writes `checkpoint_<step>` into `folder`, whole or not at all, and returns its path."""
  path = pathlib.Path(folder).absolute() / f"{_PREFIX}{int(state.step)}"
  if path.exists():
    raise InputError(f"{path} exists already; give another folder")
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(path, args=ocp.args.Composite(state=ocp.args.PyTreeSave(to_t5x(state))))
  return path


def read_t5x(path: str | os.PathLike, like: TrainState) -> TrainState:
  """Reads a checkpoint that t5x wrote, onto the first device.

  Args:
    path: a `checkpoint_<step>`, or a folder of them, whose newest is taken.
    like: shapes of the state of the same system and optimizer.

  Raises:
    InputError: no checkpoint, or one of another model or optimizer.
  """
  folder = _newest(pathlib.Path(path).absolute()) / "state"
  wanted = to_t5x(like)
  sharding = SingleDeviceSharding(jax.devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), wanted)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    _check_shapes(checkpointer.metadata(folder).item_metadata.tree, wanted, folder)
    restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
    tree = checkpointer.restore(folder, ocp.args.PyTreeRestore(wanted, restore_args=restore_args))
  return from_t5x(tree, like)


def _newest(path: pathlib.Path) -> pathlib.Path:
  if path.name.startswith(_PREFIX) and (path / "state").is_dir():
    return path
  steps = [
    name for p in path.glob(f"{_PREFIX}*/state") if (name := p.parent.name[len(_PREFIX) :]).isdecimal()
  ]
  if not steps:
    raise InputError(f"{path} is no t5x checkpoint and holds none: {_PREFIX}<step>/state is missing")
  return path / f"{_PREFIX}{max(steps, key=int)}"


def _check_shapes(saved: Any, wanted: Any, where: pathlib.Path) -> None:
  found, expected = _shapes(saved), _shapes(wanted)
  for name in sorted(found.keys() | expected.keys(), reverse=True):  # parameters say more than moments
    if found.get(name) != expected.get(name):
      raise InputError(
        f"{where} is of another model or optimizer: {name} has shape {found.get(name)}, expected "
        f"{expected.get(name)}"
      )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(p, simple=True, separator="/"): tuple(x.shape) for p, x in leaves}
