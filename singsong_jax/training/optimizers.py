"""Optimizers and schedules: Adafactor as t5x has it (Shazeer & Stern 2018; SingSong, §4.4), AdamW, Muon."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import gin
import jax
import jax.numpy as jnp
import optax

from singsong_jax.errors import InputError, did_you_mean


class Optimizer(NamedTuple):
  """A gradient transformation, and what a run records of it.

  Attributes:
    schedule: 0-based step → learning rate.
    settings: what else a continued run must have in common with its beginning, as JSON.
    frozen: patterns of parameters that it leaves alone, see `freeze`.
  """

  transformation: optax.GradientTransformation
  schedule: optax.Schedule
  settings: dict[str, Any]
  frozen: tuple[str, ...] = ()


@gin.configurable
def rsqrt_decay(base_learning_rate: float = 1.0, warmup_steps: int = 10_000) -> optax.Schedule:
  """t5x's `constant * rsqrt_decay`: base / √max(step, warmup_steps).

  The warm-up is flat, not a ramp: Adafactor scales its steps by the parameters' own size.

  Raises:
    InputError: less than one step, which would make the first rate infinite.
  """
  if warmup_steps < 1:
    raise InputError(f"rsqrt_decay.warmup_steps={warmup_steps}: at least 1 is needed")
  return lambda step: base_learning_rate / jnp.sqrt(jnp.maximum(step, warmup_steps))


@gin.configurable
def constant_rate(learning_rate: float = 1e-3, warmup_steps: int = 0) -> optax.Schedule:
  """The same rate at every step, after a linear rise over `warmup_steps`; 0.001 is T5's for fine-tuning."""
  return _rise(learning_rate, warmup_steps)


@gin.configurable
def exponential_rate(
  learning_rate: float = 1e-4, warmup_steps: int = 0, decay_rate: float = 0.999996
) -> optax.Schedule:
  """`learning_rate · decay_rate^step` (DAC's), after a linear rise over `warmup_steps`."""
  rise = _rise(learning_rate, warmup_steps)
  return lambda step: rise(step) * decay_rate**step


@gin.configurable
def cosine_rate(
  learning_rate: float = 1e-3, warmup_steps: int = 0, total_steps: int = 1000, final_share: float = 0.0
) -> optax.Schedule:
  """Half a cosine from `learning_rate` down to `final_share` of it at `total_steps`, after a linear rise.

  A run whose end is changed is another run: it cannot be continued.

  Raises:
    InputError: `total_steps` is not above `warmup_steps`.
  """
  if total_steps <= warmup_steps:
    raise InputError(f"cosine_rate.total_steps={total_steps} must be more than warmup_steps={warmup_steps}")
  return optax.warmup_cosine_decay_schedule(
    learning_rate if not warmup_steps else 0.0,
    learning_rate,
    warmup_steps,
    total_steps,
    learning_rate * final_share,
  )


@gin.configurable
def transformer_rate(learning_rate: float = 2e-3, warmup_steps: int = 25_000) -> optax.Schedule:
  """A linear rise to `learning_rate`, then `learning_rate · √(warmup_steps / step)` (Vaswani et al. 2017).

  Raises:
    InputError: less than one step of warm-up.
  """
  if warmup_steps < 1:
    raise InputError(f"transformer_rate.warmup_steps={warmup_steps}: at least 1 is needed")

  def schedule(step):
    step = jnp.maximum(step + 1.0, 1.0)
    return learning_rate * jnp.minimum(step / warmup_steps, jnp.sqrt(warmup_steps / step))

  return schedule


def _rise(learning_rate: float, warmup_steps: int) -> optax.Schedule:
  return optax.warmup_constant_schedule(
    learning_rate if not warmup_steps else 0.0, learning_rate, warmup_steps
  )


@gin.configurable
def adamw(
  schedule: optax.Schedule | None = None,
  b1: float = 0.9,
  b2: float = 0.999,
  weight_decay: float = 0.0,
  clip_norm: float = 1.0,
) -> Optimizer:
  """AdamW (Loshchilov & Hutter, 2019) after clipping the gradients' global norm.

  Args:
    schedule: learning rate by 0-based step; `constant_rate()` when None.
    weight_decay: a step subtracts `rate · weight_decay · parameter` besides; 0 is Adam.
    clip_norm: of all gradients of one optimizer together.
  """
  schedule = schedule or constant_rate()
  settings = {"b1": b1, "b2": b2, "weight_decay": weight_decay, "clip_norm": clip_norm}
  transformation = optax.chain(
    optax.clip_by_global_norm(clip_norm), optax.adamw(schedule, b1, b2, weight_decay=weight_decay)
  )
  return Optimizer(transformation, schedule, settings)


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
  settings = {
    "decay_rate": decay_rate,
    "clipping_threshold": clipping_threshold,
    "min_dim_size_to_factor": min_dim_size_to_factor,
  }
  transformation = optax.adafactor(schedule, multiply_by_parameter_scale=True, **settings)
  return Optimizer(transformation, schedule, settings)


@gin.configurable
def muon(
  schedule: optax.Schedule | None = None,
  beta: float = 0.95,
  adam_share: float = 0.3,
  b1: float = 0.9,
  b2: float = 0.98,
) -> Optimizer:
  """Muon (Jordan et al. 2024): steps along the orthogonal matrix that is nearest to the momentum.

  For a matrix of weights, with N the Nesterov momentum of its gradients and N = U Σ Vᵀ:

      P ← P − schedule(t − 1) · max(1e-3, RMS(P₀)) · √max(rows, columns) · U Vᵀ

  so that a step's RMS is the rate times that of the parameters where the optimizer began: T5's attention does
  not scale its logits, and its query matrices are smaller instead. Were it that of the parameters as they
  are, as with `adafactor`, steps of equal length in ever other directions would make both grow without end.
  Tables (embeddings, the head) and vectors take Adam.

  Args:
    schedule: learning rate by 0-based step; `constant_rate(0.02)` when None.
    beta: of the momentum.
    adam_share: of the rate, is Adam's.
    b1, b2: Adam's.
  """
  schedule = schedule or constant_rate(0.02)
  settings = {"beta": beta, "adam_share": adam_share, "b1": b1, "b2": b2}
  transformations = {
    "muon": optax.chain(
      optax.contrib.scale_by_muon(beta=beta, weight_dimension_numbers=_matrices),
      optax.stateless(lambda updates, _: jax.tree.map(lambda x: x * math.sqrt(max(x.shape)), updates)),
      _scale_by_first_rms(),
      optax.scale_by_learning_rate(schedule),
    ),
    "adam": optax.adam(lambda step: adam_share * schedule(step), b1, b2),
  }
  return Optimizer(optax.partition(transformations, _muon_labels), schedule, settings)


def _scale_by_first_rms(least: float = 1e-3) -> optax.GradientTransformation:
  """Multiplies every update by the RMS of the parameters that the optimizer was made for."""

  def init(params):
    return jax.tree.map(lambda x: jnp.maximum(least, jnp.sqrt(jnp.mean(jnp.square(x)))), params)

  def update(updates, state, params=None):
    del params
    return jax.tree.map(jnp.multiply, updates, state), state

  return optax.GradientTransformation(init, update)


def _matrices(updates: Any) -> Any:
  """A tree like `updates` that says of each leaf that it is one matrix."""
  return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), updates)


def _muon_labels(params: Any) -> Any:
  """A tree like `params` of 'muon' and 'adam'."""
  is_table = re.compile(r"(^|/)(embedding|rel_embedding|logits_dense)(/|$)").search
  return jax.tree.map(
    lambda name, leaf: "muon" if leaf.ndim == 2 and not is_table(name) else "adam",
    parameter_names(params),
    params,
  )


@gin.configurable
def freeze(patterns: Sequence[str], optimizer: Optimizer | None = None) -> Optimizer:
  """`optimizer` for some of the parameters; the others stay as they are and have no optimizer state.

  Gradients are still computed for all, and `gradient_norm` is of all.

  Args:
    patterns: regular expressions; a parameter is frozen if one of them matches its whole name, such as
      `encoder/layers_0/attention/key/kernel`.
    optimizer: `adafactor()` when None.

  Raises:
    InputError: no patterns, or one that is no regular expression; once there are parameters, a pattern that
      matches none of them, or patterns that match all.
  """
  patterns = tuple([patterns] if isinstance(patterns, str) else patterns)
  if not patterns:
    raise InputError("freeze.patterns is empty; without it no optimizer needs to be wrapped in freeze")
  for pattern in patterns:
    try:
      re.compile(pattern)
    except re.error as error:
      raise InputError(f"freeze.patterns: {pattern!r} is not a regular expression: {error}") from error
  optimizer = optimizer or adafactor()
  transformation = optax.multi_transform(
    {"trained": optimizer.transformation, "frozen": optax.set_to_zero()},
    lambda params: _labels(params, patterns),
  )
  return Optimizer(transformation, optimizer.schedule, optimizer.settings, patterns)


def _labels(params: Any, patterns: Sequence[str]) -> Any:
  """A tree like `params` of 'trained' and 'frozen'."""
  names = parameter_names(params)
  leaves = jax.tree.leaves(names)
  for pattern in patterns:
    if not any(re.fullmatch(pattern, name) for name in leaves):
      parts = {"/".join(name.split("/")[:n]) for name in leaves for n in range(1, name.count("/") + 1)}
      near = did_you_mean(pattern, {*leaves, *(f"{part}/.*" for part in parts)})
      raise InputError(f"freeze.patterns: {pattern!r} matches no parameter{near}; {_examples(leaves)}")
  frozen = jax.tree.map(lambda name: any(re.fullmatch(pattern, name) for pattern in patterns), names)
  if all(jax.tree.leaves(frozen)):
    raise InputError(
      f"freeze.patterns {list(patterns)} match all {len(leaves)} parameters: nothing is trained"
    )
  return jax.tree.map(lambda is_frozen: "frozen" if is_frozen else "trained", frozen)


def parameter_names(params: Any) -> Any:
  """A tree like `params` of its leaves' names, in the form `encoder/layers_0/attention/key/kernel`."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
  )


def _examples(names: Sequence[str], count: int = 3) -> str:
  return f"a pattern is matched with the whole of names such as {', '.join(names[:count])}"
