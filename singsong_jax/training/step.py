"""One update and one evaluation, as sharded, jitted functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from singsong_jax.errors import InputError
from singsong_jax.systems.base import SelfUpdating, Sums, System
from singsong_jax.training.optimizers import Optimizer
from singsong_jax.training.partitioning import Partitioner, num_rows
from singsong_jax.training.state import TrainState, init_state


class Steps:
  """The compiled functions of a run, and where their state lives.

  Attributes:
    abstract_state: shapes, types and shardings of the state.
    init: `() → state`.
    train: `(state, batch) → (state, sums)`; the state passed in is used up.
    evaluate: `(params, batch) → sums`, without dropout.
  """

  def __init__(
    self,
    system: System,
    optimizer: Optimizer,
    partitioner: Partitioner,
    *,
    seed: int,
    num_microbatches: int,
    skip_nonfinite: bool = False,
  ):
    init = functools.partial(init_state, system, optimizer.transformation, seed)
    shapes = jax.eval_shape(init)
    sharding = partitioner.state_sharding(system, shapes)
    self.abstract_state = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, sharding
    )
    self.init = jax.jit(init, out_shardings=sharding)
    self.train = jax.jit(
      make_train_step(
        system,
        optimizer,
        partitioner,
        seed=seed,
        num_microbatches=num_microbatches,
        skip_nonfinite=skip_nonfinite,
      ),
      donate_argnums=0,
      out_shardings=(sharding, partitioner.replicated),
    )
    self.evaluate = jax.jit(
      make_eval_step(system, partitioner, num_microbatches), out_shardings=partitioner.replicated
    )


def make_train_step(
  system: System,
  optimizer: Optimizer,
  partitioner: Partitioner,
  *,
  seed: int,
  num_microbatches: int,
  skip_nonfinite: bool = False,
) -> Callable[[TrainState, Any], tuple[TrainState, Sums]]:
  """`(state, batch) → (state, sums)`, not jitted.

  Where a sum is not finite, `skip_nonfinite` leaves parameters and optimizer as they were; the step counts.

  The dropout key of a step is a function of `seed` and `state.step` alone, so a restored run draws what
  the uninterrupted one would have.
  """

  one_update = _own_update if isinstance(system, SelfUpdating) else _gradient_update

  def train_step(state: TrainState, batch) -> tuple[TrainState, Sums]:
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    with partitioner.context():
      params, opt_state, sums = one_update(
        system, optimizer.transformation, state, batch, rng, num_microbatches, partitioner
      )
    new = TrainState(state.step + 1, params, opt_state)
    if skip_nonfinite:
      finite = jnp.all(jnp.stack([jnp.isfinite(total) for total, _ in sums.values()]))
      kept = state.replace(step=new.step)
      new = jax.tree.map(lambda new_leaf, old: jnp.where(finite, new_leaf, old), new, kept)
    return new, sums

  return train_step


def _gradient_update(system, transformation, state: TrainState, batch, rng, num_microbatches, partitioner):
  """Parameters, optimizer state and sums after a step along the gradient of the system's loss."""

  def of_rows(index, rows):
    loss = jax.value_and_grad(system.loss, has_aux=True)
    (_, sums), gradients = loss(state.params, rows, jax.random.fold_in(rng, index), state.step)
    return gradients, sums

  gradients, sums = sum_over_microbatches(of_rows, batch, num_microbatches, partitioner)
  num_tokens = sums["loss"][1]
  gradients = jax.tree.map(lambda g: g / num_tokens, gradients)
  updates, opt_state = transformation.update(gradients, state.opt_state, state.params)
  # With these three finite the new parameters are.
  norms = {"gradient_norm": gradients, "parameter_norm": state.params, "update_norm": updates}
  sums |= {name: (optax.tree.norm(tree), jnp.ones(())) for name, tree in norms.items()}
  return optax.apply_updates(state.params, updates), opt_state, sums


def _own_update(system, transformation, state: TrainState, batch, rng, num_microbatches, partitioner):
  """The same by the system's own step."""
  if num_microbatches != 1:
    raise InputError(
      f"num_microbatches={num_microbatches}: {system.name} learns from a batch as a whole; use 1, and more "
      "devices or a smaller batch"
    )
  return system.update(state.step, state.params, state.opt_state, batch, rng, transformation)


def sum_over_microbatches(of_rows: Callable, batch, num_microbatches: int, partitioner: Partitioner):
  """`of_rows(index, rows)`, a tree of arrays, summed over the microbatches, one in memory at a time."""
  if num_microbatches == 1:
    return of_rows(0, batch)

  def add(total, numbered_rows):
    return jax.tree.map(jnp.add, total, of_rows(*numbered_rows)), None

  microbatches = split_rows(batch, num_microbatches, partitioner)
  first = jax.tree.map(lambda x: x[0], microbatches)
  shapes = jax.eval_shape(of_rows, 0, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return jax.lax.scan(add, zeros, (jnp.arange(num_microbatches), microbatches))[0]


def split_rows(batch, num_microbatches: int, partitioner: Partitioner):
  """`[B, …]` to `[M, B/M, …]`: microbatch m takes rows m, m + M, …

  Strided, so that each device's contiguous rows hold an equal part of every microbatch and none move.
  """
  by_rows = NamedSharding(partitioner.mesh, partitioner.row_axes(None))

  def split(x):
    rows = x.reshape(x.shape[0] // num_microbatches, num_microbatches, *x.shape[1:])
    return jax.lax.with_sharding_constraint(rows.swapaxes(0, 1), by_rows)

  return jax.tree.map(split, batch)


def make_eval_step(
  system: System, partitioner: Partitioner, num_microbatches: int
) -> Callable[[Any, Any], Sums]:
  """`(params, batch) → sums`, without dropout; not jitted. Rows that do not divide go all at once."""

  def eval_step(params, batch) -> Sums:
    divides = num_rows(batch) % (num_microbatches * partitioner.data_parallelism) == 0
    with partitioner.context():
      return sum_over_microbatches(
        lambda _, rows: system.loss(params, rows, None)[1],
        batch,
        num_microbatches if divides else 1,
        partitioner,
      )

  return eval_step
