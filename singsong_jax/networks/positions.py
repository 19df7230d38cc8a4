"""Where a token stands: fixed sinusoids, T5's learned relative bias (the RelPos ablation, App. A), time."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from singsong_jax.networks.config import TransformerConfig
from singsong_jax.networks.layers import parameter

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.25, 64.0  # of a full turn


def sinusoids(length: int, features: int, min_scale: float = 1.0, max_scale: float = 10_000.0) -> np.ndarray:
  """Fixed position embeddings: float32 `[length, features]`.

  The first half of the features are sines, the second cosines, of `position / wavelength` with
  wavelengths in geometric progression from `min_scale` to `max_scale` (Vaswani et al. 2017, §3.5, in
  the concatenated form of tensor2tensor and MT3). `features` must be even and at least 4.
  """
  half = features // 2
  # Computed in float64: a float32 angle of 2249 rad is off by 1e-4.
  rates = min_scale * np.exp(-np.log(max_scale / min_scale) * np.arange(half) / (half - 1))  # [half]
  angles = np.arange(length)[:, None] * rates  # [length, half]
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)


def relative_buckets(
  offsets: np.ndarray, *, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128
) -> np.ndarray:
  """T5's bucket of every offset `key position − query position`: int32 in `0 … num_buckets-1`.

  Half of the buckets hold one distance each; the others widen logarithmically up to `max_distance`
  and the last takes everything beyond (Raffel et al. 2020, §2.1). Bidirectional: the upper half of
  the buckets is for keys to the right. Causal: keys to the right share bucket 0.
  """
  if bidirectional:
    num_buckets //= 2
    first = np.where(offsets > 0, num_buckets, 0)
    distance = np.abs(offsets)
  else:
    first = np.zeros_like(offsets)
    distance = np.maximum(-offsets, 0)
  exact = num_buckets // 2
  # float32, as in t5x: float64 puts some distances on a boundary into the bucket next door.
  ratio = distance.astype(np.float32) / exact + np.finfo(np.float32).eps
  wide = exact + (np.log(ratio) / np.log(max_distance / exact) * (num_buckets - exact)).astype(np.int32)
  return (first + np.where(distance < exact, distance, np.minimum(wide, num_buckets - 1))).astype(np.int32)


class RelativePositionBias(nn.Module):
  """A learned number per head and bucket, added to the attention logits of every layer of one side."""

  num_heads: int
  bidirectional: bool
  dtype: jnp.dtype
  num_buckets: int = 32
  max_distance: int = 128

  def setup(self):
    init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
    shape = (self.num_heads, self.num_buckets)
    self.rel_embedding = parameter(self, "rel_embedding", init, shape, ("heads", "relpos_buckets"))

  def __call__(self, length: int) -> jax.Array:
    """Bias of every query and key: `[1, heads, length, length]`."""
    # A Toeplitz matrix out of its diagonals by repeating and re-cutting: row q of the result starts
    # one diagonal before row q-1. Unlike a gather of length² numbers its gradient is a plain sum.
    diagonals = jnp.pad(self.by_offset(length), ((0, 0), (0, 1)))  # [heads, 2·length]
    width = 2 * length - 1
    tape = jnp.tile(diagonals, (1, length))[:, length - 1 : length - 1 + length * width]
    return tape.reshape(1, self.num_heads, length, width)[..., :length]

  def by_offset(self, length: int) -> jax.Array:
    """Biases of the offsets `-(length-1) … length-1`: `[heads, 2·length-1]`."""
    buckets = relative_buckets(
      np.arange(1 - length, length),
      bidirectional=self.bidirectional,
      num_buckets=self.num_buckets,
      max_distance=self.max_distance,
    )
    return jnp.take(self.rel_embedding.astype(self.dtype), buckets, axis=1)


# `attention.rotate`'s, of the queries `[queries, head_dim/2]` and of the keys `[keys, head_dim/2]`.
Angles = tuple[jax.Array, jax.Array] | None


class InTime(NamedTuple):
  """What one attention is told of when its queries and keys sound; None where the network has no use for it.

  Attributes:
    fall: added to the logits, `[1, heads, queries, keys]`, never positive.
    angles: by which queries and keys are turned.
  """

  fall: jax.Array | None = None
  angles: Angles = None


@dataclasses.dataclass(frozen=True)
class Clock:
  """When the tokens of an encoder-decoder sound, for attention that goes by time instead of positions.

  Between vocals, semantic and acoustic codes, whose positions advance at different rates, what sounds at the
  same moment, or a beat before, is then as far away as it sounds; a small model with little data is slow to
  find that by itself. Two ways, which a network can have together:

  `time_slopes`: fixed linear falls, one slope a head, as in ALiBi (Press et al. 2022, §3).
  `time_rotation`: queries and keys turned by angles that grow with time (RoPE: Su et al. 2021, §3.2), in
    halves as in GPT-NeoX; a full turn takes from 0.25 s to 64 s.

  Attributes:
    encoder_seconds, decoder_seconds: of the encoder's inputs and of the decoder's targets.
  """

  encoder_seconds: tuple[float, ...]
  decoder_seconds: tuple[float, ...]

  def encoder(self, config: TransformerConfig, length: int) -> InTime:
    """Of the encoder's attention."""
    seconds = jnp.asarray(np.array(self.encoder_seconds[:length], np.float32))
    return _in_time(config, seconds, seconds)

  def decoder(self, config: TransformerConfig, first: ArrayLike, queries: int, keys: int) -> InTime:
    """Of the decoder's attention to itself, for the queries at the positions `first …`.

    A query is the target it predicts, a key the input it holds, which is the target before.
    """
    inputs = np.resize(np.array((0.0, *self.decoder_seconds), np.float32), keys)  # keys beyond are masked
    return _in_time(config, self._targets(first, queries), jnp.asarray(inputs))

  def across(self, config: TransformerConfig, first: ArrayLike, queries: int, keys: int) -> InTime:
    """Of the decoder's attention to the encoder, likewise."""
    seconds = np.array(self.encoder_seconds[:keys], np.float32)
    return _in_time(config, self._targets(first, queries), jnp.asarray(seconds))

  def _targets(self, first: ArrayLike, queries: int) -> jax.Array:
    seconds = jnp.asarray(np.array(self.decoder_seconds, np.float32))
    return jax.lax.dynamic_slice_in_dim(seconds, first, queries)


def _in_time(config: TransformerConfig, queries: jax.Array, keys: jax.Array) -> InTime:
  """Of queries and keys that sound at so many seconds."""
  fall = _fall(config.time_slopes, queries, keys) if config.time_slopes else None
  if not config.time_rotation:
    return InTime(fall)
  half = config.head_dim // 2
  periods = np.geomspace(_SHORTEST_SECONDS, _LONGEST_SECONDS, half)
  rates = jnp.asarray(2 * np.pi / periods, jnp.float32)
  return InTime(fall, (queries[:, None] * rates, keys[:, None] * rates))


def _fall(slopes: Sequence[float], queries: jax.Array, keys: jax.Array) -> jax.Array:
  """Minus slope times distance: seconds `[Q]` and `[K]` to `[1, heads, Q, K]`."""
  return -jnp.asarray(slopes, jnp.float32)[None, :, None, None] * jnp.abs(queries[:, None] - keys)
