"""The decoder one token at a time: `transformer.Decoder` over a cache of keys and values.

Same numbers as the modules, from the same parameters, in the form in which reading one token is fast:
projections of one input are one product, the attention reads only as many keys as its caller has made
room for, and the head reads only the rows of the ids that are wanted. R rows, n new positions, K positions
in the cache, E emb_dim, H heads, D head_dim; encoder rows B divide R: each is read by R / B rows.
"""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from singsong_jax.networks import layers, positions, transformer
from singsong_jax.networks.attention import MASKED, dot_product_attention, rotate
from singsong_jax.networks.config import TransformerConfig


class LayerCache(NamedTuple):
  """Self-attention's keys and values.

  Rows and heads are joined because XLA then updates and reads them in place; with four dimensions it
  copies each array at every step.
  """

  key: jax.Array  # [R·H, K, D]
  value: jax.Array  # [R·H, K, D]


class _Layer(NamedTuple):
  """Weights of one layer, of the activations' dtype; matrices `[in, out]`, or the reverse."""

  self_norm: jax.Array  # [E]
  self_projections: jax.Array  # query, key, value: E to 3·H·D
  self_out: jax.Array  # H·D to E
  mlp_norm: jax.Array  # [E]
  mlp_in: jax.Array  # all factors: E to factors·M
  mlp_out: jax.Array  # M to E


class _CrossAttention(NamedTuple):
  """A layer's weights that read the encoder's output, and its keys and values, the same at every step."""

  norm: jax.Array  # [E]
  query: jax.Array  # E to H·D
  out: jax.Array  # H·D to E
  encoded_key: jax.Array  # [B, H, S, D]
  encoded_value: jax.Array  # [B, H, S, D]


Cache = tuple[LayerCache, ...]


def _outputs_first(rows: int) -> bool:
  """Whether weights are `[out, in]`.

  An accelerator multiplies a single row as a sum over the last axis: it then reads them in their order.
  """
  return rows == 1 and jax.default_backend() != "cpu"


def cache_bytes(config: TransformerConfig, positions: int) -> int:
  """Keys and values of so many positions, of all layers of one row."""
  numbers = 2 * config.num_decoder_layers * config.num_heads * config.head_dim
  return numbers * positions * jnp.dtype(config.dtype).itemsize


class CachedDecoder:
  """A network's decoder with its parameters, laid out for decoding. Make it inside `jit`.

  Args:
    config: the network's.
    params: of an `EncoderDecoder` or a `DecoderOnly`, boxed or not.
    rows: number of sequences.
    encoded: the encoder's output `[B, S, E]`; None for a decoder alone.
    encoder_mask: bool `[B, S]`, True at tokens.
    max_length: number of positions of a whole sequence.
    clock: when the tokens sound; needed where the network goes by time.
  """

  def __init__(
    self,
    config: TransformerConfig,
    params: Any,
    *,
    rows: int,
    max_length: int,
    encoded: jax.Array | None = None,
    encoder_mask: jax.Array | None = None,
    clock: positions.Clock | None = None,
  ):
    params = nn.unbox(params)
    decoder = params["decoder"]
    layer_params = [decoder[f"layers_{i}"] for i in range(config.num_decoder_layers)]
    self._config = config
    self._rows = rows
    self._outputs_first = _outputs_first(rows)
    self._max_length = max_length
    self._clock = clock if config.goes_by_time else None
    self._dtype = jnp.dtype(config.dtype)
    self._embedding = params["token_embedder"]["embedding"].astype(self._dtype)  # [V, E]
    self._layers = [self._layer(layer) for layer in layer_params]
    self._cross = [None if encoded is None else self._cross_layer(layer, encoded) for layer in layer_params]
    self._encoder_mask = encoder_mask
    self._norm = decoder["decoder_norm"]["scale"].astype(self._dtype)
    self._head = decoder["logits_dense"]["kernel"].T  # [V, E], float32 as in training
    self._bias = self._bias_by_offset(decoder)

  def init_cache(self) -> Cache:
    """A cache of no positions."""
    shape = (self._rows * self._config.num_heads, 0, self._config.head_dim)
    empty = jnp.zeros(shape, self._dtype)
    return (LayerCache(empty, empty),) * len(self._layers)

  def grow(self, cache: Cache, length: int) -> Cache:
    """The cache with room for `length` positions: as many keys as `extend` will read."""
    return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0))), cache)

  def extend(self, tokens: jax.Array, position: ArrayLike, cache: Cache) -> tuple[jax.Array, Cache]:
    """Reads the decoder's inputs at the positions `position … position + n - 1`.

    Args:
      tokens: int `[R, n]`.
      position: scalar, may be traced; every earlier position must be in the cache.
      cache: with room for these positions; all of it is read, unwritten positions masked.

    Returns:
      What the head reads, `[R, n, E]`, and the cache.
    """
    x = jnp.take(self._embedding, tokens, axis=0)
    x = transformer.add_positions(self._config, x, position, self._max_length)
    in_time, across = self._in_time(tokens.shape[1], position, cache[0].key.shape[1])
    bias = self._self_bias(tokens.shape[1], position, cache[0].key.shape[1], in_time.fall)
    caches = []
    for weights, cross, layer_cache in zip(self._layers, self._cross, cache, strict=True):
      x, layer_cache = self._self_attention(weights, x, position, layer_cache, bias, in_time.angles)
      if cross is not None:
        x = self._cross_attention(cross, x, across)
      x = x + self._mlp(weights, x)
      caches.append(layer_cache)
    return layers.rms_norm(x, self._norm), tuple(caches)

  def logits(self, x: jax.Array, first_id: ArrayLike, num_ids: int) -> jax.Array:
    """Float32 logits of the ids `first_id …`: `[R, E]` to `[R, num_ids]`."""
    rows = jax.lax.dynamic_slice_in_dim(self._head, first_id, num_ids)
    return x.astype(jnp.float32) @ rows.T

  def _self_attention(
    self,
    weights: _Layer,
    x: jax.Array,
    position: ArrayLike,
    cache: LayerCache,
    bias: jax.Array,
    angles: positions.Angles,
  ) -> tuple[jax.Array, LayerCache]:
    y = self._product(layers.rms_norm(x, weights.self_norm), weights.self_projections)
    query, key, value = (self._join_heads(part) for part in jnp.split(y, 3, axis=-1))  # [R·H, n, D]
    if angles is not None:  # of the keys, those of all positions: the cache has them turned
      query = rotate(query, angles[0])
      key = rotate(key, jax.lax.dynamic_slice_in_dim(angles[1], position, key.shape[1]))
    write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=position, axis=1)
    cache = LayerCache(write(cache.key, key), write(cache.value, value))
    y = dot_product_attention(query, cache.key, cache.value, bias=bias)
    y = y.reshape(-1, self._config.num_heads, *y.shape[1:])  # [R, H, n, D]
    return x + self._product(_merge_heads(y), weights.self_out), cache

  def _cross_attention(self, weights: _CrossAttention, x: jax.Array, across: positions.InTime) -> jax.Array:
    assert self._encoder_mask is not None
    key, value = weights.encoded_key, weights.encoded_value
    query = self._product(layers.rms_norm(x, weights.norm), weights.query)
    # The rows of one encoder row ask the same keys: to the attention they are more queries.
    query = self._split_heads(query.reshape(key.shape[0], -1, query.shape[-1]))  # [B, H, R/B·n, D]
    bias, repeats = across.fall, query.shape[2] // x.shape[1]
    if bias is not None:
      bias = jnp.tile(bias, (1, 1, repeats, 1))
    if across.angles is not None:  # the keys are turned already
      query = rotate(query, jnp.tile(across.angles[0], (repeats, 1)))
    y = dot_product_attention(query, key, value, key_mask=self._encoder_mask[:, None], bias=bias)
    return x + self._product(_merge_heads(y).reshape(*x.shape[:2], -1), weights.out)

  def _mlp(self, weights: _Layer, x: jax.Array) -> jax.Array:
    activations = self._config.mlp_activations
    hidden = self._product(layers.rms_norm(x, weights.mlp_norm), weights.mlp_in)
    parts = jnp.split(hidden, len(activations), axis=-1)
    factors = [
      part if name == "linear" else getattr(nn, name)(part) for name, part in zip(activations, parts)
    ]
    return self._product(functools.reduce(operator.mul, factors), weights.mlp_out)

  def _in_time(
    self, num_queries: int, position: ArrayLike, num_keys: int
  ) -> tuple[positions.InTime, positions.InTime]:
    """Of the attention to itself, and of that to the encoder."""
    if self._clock is None or self._encoder_mask is None:
      return positions.InTime(), positions.InTime()
    return (
      self._clock.decoder(self._config, position, num_queries, num_keys),
      self._clock.across(self._config, position, num_queries, self._encoder_mask.shape[1]),
    )

  def _self_bias(
    self, num_queries: int, position: ArrayLike, num_keys: int, fall: jax.Array | None
  ) -> jax.Array:
    """The causal mask, with `fall` and the relative bias where there are any: `[n, K]` or `[R·H, n, K]`."""
    queries = position + jnp.arange(num_queries)
    future = jnp.where(jnp.arange(num_keys) > queries[:, None], MASKED, 0.0)  # [n, K]
    if fall is not None:
      future = jnp.tile(fall[0] + future, (self._rows, 1, 1))  # [R·H, n, K]
    if self._bias is None:
      return future
    by_offset, first = self._bias, self._max_length - 1 - queries
    cut = lambda start: jax.lax.dynamic_slice_in_dim(by_offset, start, num_keys, axis=1)
    relative = jax.vmap(cut, out_axes=1)(first)  # [H, n, K]
    return jnp.tile(relative, (self._rows, 1, 1)) + future

  def _bias_by_offset(self, decoder: Any) -> jax.Array | None:
    """Relative biases of the offsets `-(max_length-1) … max_length-1`: `[H, 2·max_length-1]`, or None."""
    if self._config.position_scheme != "relative_bias":
      return None
    module = positions.RelativePositionBias(self._config.num_heads, False, self._dtype)
    table: Any = module.apply({"params": decoder["relpos_bias"]}, self._max_length, method="by_offset")
    return table

  def _layer(self, layer: Any) -> _Layer:
    num_factors = len(self._config.mlp_activations)
    factors = ["wi"] if num_factors == 1 else [f"wi_{i}" for i in range(num_factors)]
    return _Layer(
      self_norm=self._scale(layer["pre_self_attention_layer_norm"]),
      self_projections=self._kernel(layer["self_attention"], "query", "key", "value"),
      self_out=self._kernel(layer["self_attention"], "out"),
      mlp_norm=self._scale(layer["pre_mlp_layer_norm"]),
      mlp_in=self._kernel(layer["mlp"], *factors),
      mlp_out=self._kernel(layer["mlp"], "wo"),
    )

  def _cross_layer(self, layer: Any, encoded: jax.Array) -> _CrossAttention:
    attention = layer["encoder_decoder_attention"]
    key = self._split_heads(self._product(encoded, self._kernel(attention, "key")))
    if self._clock is not None:
      angles = self._clock.across(self._config, 0, 1, encoded.shape[1]).angles
      key = key if angles is None else rotate(key, angles[1])
    return _CrossAttention(
      norm=self._scale(layer["pre_cross_attention_layer_norm"]),
      query=self._kernel(attention, "query"),
      out=self._kernel(attention, "out"),
      encoded_key=key,
      encoded_value=self._split_heads(self._product(encoded, self._kernel(attention, "value"))),
    )

  def _kernel(self, module: Any, *names: str) -> jax.Array:
    """Kernels of a module as one, for `_product`."""
    kernel = jnp.concatenate([module[name]["kernel"] for name in names], axis=1).astype(self._dtype)
    return kernel.T if self._outputs_first else kernel

  def _product(self, x: jax.Array, weights: jax.Array) -> jax.Array:
    """`[..., in]` to `[..., out]`."""
    return x @ (weights.T if self._outputs_first else weights)

  def _scale(self, norm: Any) -> jax.Array:
    return norm["scale"].astype(self._dtype)

  def _split_heads(self, x: jax.Array) -> jax.Array:
    """`[B, n, H·D]` to `[B, H, n, D]`."""
    return x.reshape(*x.shape[:2], self._config.num_heads, -1).swapaxes(1, 2)

  def _join_heads(self, x: jax.Array) -> jax.Array:
    """`[R, n, H·D]` to `[R·H, n, D]`."""
    return self._split_heads(x).reshape(-1, x.shape[1], self._config.head_dim)


def _merge_heads(x: jax.Array) -> jax.Array:
  """`[B, H, n, D]` to `[B, n, H·D]`."""
  x = x.swapaxes(1, 2)
  return x.reshape(*x.shape[:2], -1)
