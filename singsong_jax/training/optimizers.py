"""Adafactor as t5x sets it up (Shazeer & Stern, 2018; SingSong, §4.4: T5's defaults)."""

from typing import NamedTuple

import gin
import jax.numpy as jnp
import optax


class Optimizer(NamedTuple):
  """A gradient transformation, and the learning rate it uses at each step, for the record."""

  transformation: optax.GradientTransformation
  schedule: optax.Schedule  # 0-based step → learning rate


@gin.configurable
def rsqrt_decay(base_learning_rate: float = 1.0, warmup_steps: int = 10_000) -> optax.Schedule:
  """t5x's `constant * rsqrt_decay`: base / √max(step, warmup_steps).

  The warm-up is flat, not a ramp: Adafactor scales its steps by the parameters' own size.
  """
  return lambda step: base_learning_rate / jnp.sqrt(jnp.maximum(step, warmup_steps))


@gin.configurable
def adafactor(
  schedule: optax.Schedule | None = None,
  decay_rate: float = 0.8,
  clipping_threshold: float = 1.0,
  min_dim_size_to_factor: int = 128,
) -> Optimizer:
  """Adafactor without momentum and without weight decay, steps relative to the parameters' RMS.

  For a matrix G of gradients at 1-based step t, with β = 1 − t^−decay_rate:

      R ← β R + (1 − β) mean_columns(G² + 1e-30)       C ← the same over rows
      U = G / √(R Cᵀ / mean(R))                         without factoring: U = G / √V
      U ← U / max(1, RMS(U) / clipping_threshold)
      P ← P − schedule(t − 1) · max(1e-3, RMS(P)) · U

  Args:
    schedule: learning rate by 0-based step; `rsqrt_decay()` when None.
    decay_rate: exponent of the second moments' decay.
    clipping_threshold: on the RMS of an update.
    min_dim_size_to_factor: smaller matrices, and vectors, keep a full second moment.
  """
  schedule = schedule or rsqrt_decay()
  transformation = optax.adafactor(
    schedule,
    min_dim_size_to_factor=min_dim_size_to_factor,
    decay_rate=decay_rate,
    clipping_threshold=clipping_threshold,
    multiply_by_parameter_scale=True,
  )
  return Optimizer(transformation, schedule)
