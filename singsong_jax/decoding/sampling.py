"""Cached sampling of a sequence whose length and legal ids are known in advance."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from singsong_jax.errors import InputError

Cache = TypeVar("Cache")
# (token [B], position, cache, block_start, block_size) -> (logits [B, block_size], cache)
DecodeStep = Callable[[jax.Array, jax.Array, Cache, jax.Array, int], tuple[jax.Array, Cache]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingOptions:
  """How an id is chosen from the logits of the legal ones. The defaults are the paper's (§4.4).

  Attributes:
    temperature: > 0; logits are divided by it.
    greedy: take the likeliest id; temperature, top_k and the seed then have no effect.
    top_k: sample from the k likeliest ids only; 0 is off.
  """

  temperature: float = 0.85
  greedy: bool = False
  top_k: int = 0

  def __post_init__(self):
    if not self.temperature > 0:
      raise InputError(f"temperature must be above 0, got {self.temperature}; for 0 set greedy")
    if self.top_k < 0:
      raise InputError(f"top_k must be 0 (off) or positive, got {self.top_k}")


def sample_tokens(
  decode_step: DecodeStep,
  cache: Cache,
  *,
  block_starts: ArrayLike,
  block_size: int,
  batch_size: int,
  rng: jax.Array,
  options: SamplingOptions,
  bos_id: int,
) -> jax.Array:
  """Samples one id a position, each from its legal block: int32 ids `[B, T]`.

  Equal to masking the other logits with −∞, at a fifth of the cost. One `lax.scan` of fixed length:
  a loop that stops on data makes an accelerator wait for the host at every token.

  Args:
    decode_step: the network's; called for positions `0 … T-1` in order.
    cache: its state before position 0.
    block_starts: int `[T]`, first legal id of each position.
    block_size: number of legal ids, the same at every position.
    rng: one key, or one a row `[B]`. Row i depends on its own key (from one key: `fold_in(rng, i)`)
      and position only, so it is the same in a batch of any size.
    bos_id: the decoder's first input.
  """
  row_keys = _row_keys(rng, batch_size)

  def step(carry, x):
    token, cache = carry
    position, block_start = x
    logits, cache = decode_step(token, position, cache, block_start, block_size)
    token = block_start + choose(logits, row_keys, position, options)
    return (token, cache), token

  block_starts = jnp.asarray(block_starts, jnp.int32)
  first = jnp.full((batch_size,), bos_id, jnp.int32)
  xs = (jnp.arange(block_starts.shape[0]), block_starts)
  _, tokens = jax.lax.scan(step, (first, cache), xs)
  return tokens.T


def choose(
  logits: jax.Array, row_keys: jax.Array, position: jax.Array, options: SamplingOptions
) -> jax.Array:
  """One index a row: logits `[B, N]`, keys `[B]`, scalar position, to int32 `[B]` in `0 … N-1`."""
  if options.greedy:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  if options.top_k:
    kept = jax.lax.top_k(logits, min(options.top_k, logits.shape[-1]))[0]
    logits = jnp.where(logits < kept[:, -1:], -jnp.inf, logits)
  keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, position)
  return jax.vmap(jax.random.categorical)(keys, logits / options.temperature).astype(jnp.int32)


def _row_keys(rng: jax.Array, batch_size: int) -> jax.Array:
  if jax.random.key_data(rng).ndim > 1:
    return rng
  return jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(batch_size))
