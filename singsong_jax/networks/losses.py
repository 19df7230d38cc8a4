"""Cross-entropies of next-token prediction, and what is reported of them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def cross_entropy(logits: jax.Array, targets: jax.Array, z_loss: float) -> tuple[jax.Array, jax.Array]:
  """Negative log-likelihood over all ids, and t5x's z-loss.

  Args:
    logits: float32 `[..., V]`.
    targets: ids `[...]`.
    z_loss: coefficient of `log(z)²`, z being the softmax's normaliser. It keeps logits from
      drifting away from log-probabilities (t5x `losses.py`).

  Returns:
    `(nll, z)`, both `[...]`, in nats; the training loss is their sum.
  """
  log_z = jax.nn.logsumexp(logits, axis=-1)
  return log_z - _at(logits, targets), z_loss * jnp.square(log_z)


def block_cross_entropy(
  logits: jax.Array, targets: jax.Array, block_starts: ArrayLike, block_size: int | np.ndarray
) -> jax.Array:
  """Negative log-likelihood when only the legal ids of each position compete: `[..., T]`, in nats.

  Args:
    logits: float32 `[..., T, V]`.
    targets: ids `[..., T]`, each in its block.
    block_starts: `[T]`; the legal ids of position t are `block_starts[t] … + block_size - 1`.
    block_size: of every position, or of each `[T]`.
  """
  size = int(np.max(block_size))
  ids = jnp.asarray(block_starts)[:, None] + jnp.arange(size)  # [T, size]
  ids = jnp.minimum(ids, logits.shape[-1] - 1)  # a smaller block may be the last
  # Gathered, not masked: only the block is read, which is a twelfth of the fine stage's logits.
  legal = jnp.take_along_axis(logits, jnp.broadcast_to(ids, (*logits.shape[:-1], size)), axis=-1)
  if np.min(block_size) < size:
    legal = jnp.where(np.arange(size) < np.asarray(block_size)[:, None], legal, -jnp.inf)
  return jax.nn.logsumexp(legal, axis=-1) - _at(logits, targets)


def correct(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Bool `[...]`: whether no id is likelier than the target."""
  return _at(logits, targets) >= jnp.max(logits, axis=-1)


def loss_and_metrics(
  logits: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  *,
  z_loss: float,
  block_starts: ArrayLike,
  block_size: int | np.ndarray,
  groups: Mapping[str, slice],
) -> tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
  """Summed cross-entropy over all ids plus z-loss (t5x), and metrics as `(sum, weight)`.

  Args:
    logits: float32 `[B, T, V]`.
    targets: ids `[B, T]`.
    weights: `[B, T]`, 0 where a position does not count.
    z_loss: see `cross_entropy`.
    block_starts, block_size: see `block_cross_entropy`.
    groups: name → positions that are also reported on their own.

  Returns:
    The sum, and 'loss' (with z-loss), 'z_loss', 'accuracy', and of each group 'nll_…' and 'nll_…_masked',
    where only the legal ids of a position compete. NLLs are in nats per token.
  """
  nll, z = cross_entropy(logits, targets, z_loss)  # [B, T]
  masked = block_cross_entropy(logits, targets, block_starts, block_size)
  metrics = {
    "loss": _weighted(nll + z, weights),
    "z_loss": _weighted(z, weights),
    "accuracy": _weighted(correct(logits, targets), weights),
  }
  for group, positions in groups.items():
    metrics[f"nll_{group}"] = _weighted(nll[:, positions], weights[:, positions])
    metrics[f"nll_{group}_masked"] = _weighted(masked[:, positions], weights[:, positions])
  return metrics["loss"][0], metrics


def _weighted(values: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Weighted sum of `[B, T]`, and the weights' sum."""
  weights = weights.astype(jnp.float32)
  return jnp.sum(values * weights), jnp.sum(weights)


def _at(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """`logits[..., targets]`: `[...]`."""
  return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
