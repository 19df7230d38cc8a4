"""How an id is chosen from the logits of the legal ones."""

import dataclasses

import jax
import jax.numpy as jnp

from singsong_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingOptions:
  """Settings of the sampling. The defaults are the paper's (§4.4): temperature and nothing else.

  Attributes:
    temperature: > 0; logits are divided by it.
    greedy: take the likeliest id; temperature, top_k, top_p and the seed then have no effect.
    top_k: sample from the k likeliest ids only; 0 is off.
    top_p: sample from the fewest likeliest ids whose probabilities, at this temperature and after top_k,
      sum to at least p (Holtzman et al. 2020); 1 is off.
    guidance_scale: w of classifier-free guidance (Ho and Salimans 2022), `away + w · (logits - away)`;
      1 is off. What is guided away from is the system's matter.
  """

  temperature: float = 0.85
  greedy: bool = False
  top_k: int = 0
  top_p: float = 1.0
  guidance_scale: float = 1.0

  def __post_init__(self):
    if not self.temperature > 0:
      raise InputError(f"temperature must be above 0, got {self.temperature}; for 0 set greedy")
    if self.top_k < 0:
      raise InputError(f"top_k must be 0 (off) or positive, got {self.top_k}")
    if not 0 < self.top_p <= 1:
      raise InputError(f"top_p must be above 0 and at most 1 (off), got {self.top_p}")
    if not self.guidance_scale >= 0:
      raise InputError(f"guidance_scale must be at least 0, got {self.guidance_scale}")


def row_keys(rng: jax.Array, rows: int) -> jax.Array:
  """One key a row `[rows]`: `rng` itself where it is that, else `fold_in(rng, row)`."""
  if jax.random.key_data(rng).ndim > 1:
    return rng
  return jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(rows))


def gumbel_noise(keys: jax.Array, positions: jax.Array, size: int) -> jax.Array:
  """What `jax.random.categorical` adds to logits with the key `fold_in(row's key, position)`.

  Many positions at once: drawn one by one, random numbers are a good part of the cost of a small token.

  Args:
    keys: `[rows]`.
    positions: int `[n]`.
    size: number of logits.

  Returns:
    float32 `[n, rows, size]`.
  """
  draw = lambda key, position: jax.random.gumbel(jax.random.fold_in(key, position), (size,))
  return jax.vmap(jax.vmap(draw, (0, None)), (None, 0))(keys, positions)


def choose(logits: jax.Array, noise: jax.Array | None, options: SamplingOptions) -> jax.Array:
  """One index a row: float32 logits and Gumbel noise `[rows, N]` to int32 `[rows]`, `0 … N-1`."""
  if noise is None or options.greedy:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = logits / options.temperature
  if options.top_k:
    kept = jax.lax.top_k(logits, min(options.top_k, logits.shape[-1]))[0]
    logits = jnp.where(logits < kept[:, -1:], -jnp.inf, logits)
  if options.top_p < 1:
    logits = jnp.where(logits < _top_p_threshold(logits, options.top_p), -jnp.inf, logits)
  return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)


def _top_p_threshold(logits: jax.Array, top_p: float) -> jax.Array:
  """The least logit that is kept: `[rows, N]` to `[rows, 1]`."""
  descending = -jnp.sort(-logits, axis=-1)
  probabilities = jax.nn.softmax(descending, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities  # probability of the likelier ones
  last = jnp.sum(before < top_p, axis=-1, keepdims=True) - 1  # at least one is kept
  return jnp.take_along_axis(descending, last, axis=-1)
