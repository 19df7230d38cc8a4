"""Cross-entropies of next-token prediction."""

import jax
import jax.numpy as jnp


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
  logits: jax.Array, targets: jax.Array, block_starts: jax.Array, block_size: int
) -> jax.Array:
  """Negative log-likelihood when only the legal ids of each position compete: `[..., T]`, in nats.

  Args:
    logits: float32 `[..., T, V]`.
    targets: ids `[..., T]`, each in its block.
    block_starts: `[T]`; the legal ids of position t are `block_starts[t] … + block_size - 1`.
  """
  ids = jnp.arange(logits.shape[-1])
  starts = jnp.asarray(block_starts)[:, None]
  legal = (ids >= starts) & (ids < starts + block_size)  # [T, V]
  return jax.nn.logsumexp(logits, axis=-1, where=legal) - _at(logits, targets)


def correct(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Bool `[...]`: whether no id is likelier than the target."""
  return _at(logits, targets) >= jnp.max(logits, axis=-1)


def _at(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """`logits[..., targets]`: `[...]`."""
  return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
