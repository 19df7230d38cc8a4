"""What an update changes."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from singsong_jax.systems.base import SelfUpdating, System


@flax.struct.dataclass
class TrainState:
  """Everything a step reads and writes. Randomness is not part of it: it is a function of (seed, step).

  Attributes:
    step: int32 scalar, number of updates done.
    params: float32 parameters, without their axis names.
    opt_state: of the optimizer.
  """

  step: jax.Array
  params: Any
  opt_state: optax.OptState


def init_state(system: System, transformation: optax.GradientTransformation, seed: int) -> TrainState:
  """The state before the first step. Traceable."""
  params = nn.unbox(system.init(jax.random.key(seed)))
  if isinstance(system, SelfUpdating):
    opt_state = system.init_optimizer(transformation, params)
  else:
    opt_state = transformation.init(params)
  return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def count_parameters(params: Any) -> int:
  """Number of scalars in a tree of arrays or of their shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
