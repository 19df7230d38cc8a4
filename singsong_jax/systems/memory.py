"""How much memory generation takes, estimated before anything is compiled."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from singsong_jax.decoding.engine import FORCED_PIECE, SAMPLED_PIECE
from singsong_jax.networks.cached_decoder import cache_bytes
from singsong_jax.networks.config import TransformerConfig

_LOGITS_BYTES = 2 * 4  # of an attention's logits and their exponentials, float32


def decoding_bytes(config: TransformerConfig, params: Any, rows: int, length: int, block_size: int) -> int:
  """Bytes that decoding `rows` rows of `length` positions takes besides the parameters.

  Counted are the weights laid out for decoding, the cache and the one it grew out of, the random numbers of a
  piece, and the attention of a forced piece.

  Args:
    params: the parameters or their shapes.
  """
  weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  random_numbers = SAMPLED_PIECE * block_size * 4
  attention = _LOGITS_BYTES * config.num_heads * min(FORCED_PIECE, length) * length
  per_row = 2 * cache_bytes(config, length) + random_numbers + attention
  return weights * jnp.dtype(config.dtype).itemsize + rows * per_row


def encoding_bytes(config: TransformerConfig, rows: int, length: int) -> int:
  """Bytes of the encoder's attention in one layer, and of the keys and values that the decoder reads."""
  attention = _LOGITS_BYTES * config.num_heads * length**2
  return rows * (attention + cache_bytes(config, length))
