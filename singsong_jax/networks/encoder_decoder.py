"""T5.1.1 encoder-decoder (Raffel et al. 2020; Shazeer 2020) with fixed sinusoidal positions.

Numerically t5x's `examples/t5/network.py` with the position scheme swapped; the parameter tree has
t5x's names, one for one:

    token_embedder/embedding
    encoder/layers_0/{pre_attention_layer_norm, attention/{query,key,value,out}, pre_mlp_layer_norm, mlp}
    decoder/layers_0/{pre_self_attention_layer_norm, self_attention/…, pre_cross_attention_layer_norm,
                      encoder_decoder_attention/…, pre_mlp_layer_norm, mlp/{wi_0,wi_1,wo}}
    {encoder/encoder_norm, decoder/decoder_norm}/scale, decoder/logits_dense/kernel
    {encoder,decoder}/relpos_bias/rel_embedding                 (position_scheme='relative_bias' only)

Shapes below: B batch, S encoder length, T decoder length, E emb_dim, H heads, D head_dim, V vocabulary.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks import layers, positions

POSITION_SCHEMES = ("sinusoidal", "relative_bias")
DTYPES = ("bfloat16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
  """Sizes and switches of the network.

  Attributes:
    vocab_size: number of ids; 0 leaves it to the system that owns the vocabulary.
    mlp_activations: flax.linen activation names, or 'linear'; their outputs are multiplied.
    dtype: of activations. Parameters, norms, softmax and final logits are always float32.
    position_scheme: 'sinusoidal', or 'relative_bias' for T5's.
    remat: recompute each layer in the backward pass, keeping only its matrix products with weights.

  Raises:
    InputError: a value the network cannot be built with.
  """

  vocab_size: int = 0
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int
  num_decoder_layers: int
  mlp_activations: tuple[str, ...] = ("gelu", "linear")
  dropout_rate: float = 0.1
  dtype: str = "bfloat16"
  position_scheme: str = "sinusoidal"
  remat: bool = False

  def __post_init__(self):
    object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))  # gin and JSON give lists
    for name in ("num_heads", "head_dim", "mlp_dim", "num_encoder_layers", "num_decoder_layers"):
      if not isinstance(size := getattr(self, name), int) or size < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {size!r}")
    if self.position_scheme not in POSITION_SCHEMES:
      raise InputError(f"position_scheme must be one of {POSITION_SCHEMES}, got {self.position_scheme!r}")
    if self.emb_dim < 4 or self.emb_dim % 2:
      raise InputError(f"emb_dim must be even and at least 4 (sines and cosines), got {self.emb_dim}")
    for activation in self.mlp_activations:
      if activation != "linear" and not hasattr(nn, activation):
        raise InputError(f"mlp_activations names {activation!r}, which flax.linen does not have")
    if self.dtype not in DTYPES:
      raise InputError(f"dtype must be one of {DTYPES}, got {self.dtype!r}")
    if not 0 <= self.dropout_rate < 1:
      raise InputError(f"dropout_rate must be in [0, 1), got {self.dropout_rate}")


class LayerCache(NamedTuple):
  """What a decoder layer remembers of earlier positions and of the encoder.

  XLA updates and reads self-attention's arrays in place because batch and heads are joined; with
  four dimensions it copies each of them at every step.
  """

  self_key: jax.Array  # [B·H, T, D]
  self_value: jax.Array  # [B·H, T, D]
  cross_key: jax.Array  # [B, H, S, D], never changes
  cross_value: jax.Array  # [B, H, S, D], never changes


class Cache(NamedTuple):
  """State of cached decoding: a plain pytree, so it can be the carry of a `lax.scan`."""

  layers: tuple[LayerCache, ...]
  encoder_mask: jax.Array  # bool [B, S], True at tokens


def _attention(config: EncoderDecoderConfig) -> layers.Attention:
  return layers.Attention(
    num_heads=config.num_heads,
    head_dim=config.head_dim,
    embed_dim=config.emb_dim,
    dropout_rate=config.dropout_rate,
    dtype=jnp.dtype(config.dtype),
  )


def _mlp(config: EncoderDecoderConfig) -> layers.Mlp:
  return layers.Mlp(config.mlp_dim, config.mlp_activations, config.dropout_rate, jnp.dtype(config.dtype))


def _norm(config: EncoderDecoderConfig) -> layers.RMSNorm:
  return layers.RMSNorm(jnp.dtype(config.dtype))


def _dropout(config: EncoderDecoderConfig) -> nn.Dropout:
  return nn.Dropout(config.dropout_rate, broadcast_dims=(-2,))  # one mask for all positions, as in t5x


def _relative_bias(
  config: EncoderDecoderConfig, bidirectional: bool
) -> positions.RelativePositionBias | None:
  if config.position_scheme != "relative_bias":
    return None
  return positions.RelativePositionBias(config.num_heads, bidirectional, jnp.dtype(config.dtype))


class EncoderLayer(nn.Module):
  """Self-attention and MLP, each `x + dropout(f(norm(x)))`."""

  config: EncoderDecoderConfig

  def setup(self):
    self.pre_attention_layer_norm = _norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = _dropout(self.config)

  def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array | None, deterministic: bool):
    """x `[B, S, E]`, mask bool `[B, S]`, bias `[1, H, S, S]`; returns `[B, S, E]`."""
    y = self.pre_attention_layer_norm(x)
    y = self.attention(y, y, deterministic, key_mask=mask[:, None], bias=bias)
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)


class DecoderLayer(nn.Module):
  """Causal self-attention, attention to the encoder, MLP, each `x + dropout(f(norm(x)))`."""

  config: EncoderDecoderConfig

  def setup(self):
    self.pre_self_attention_layer_norm = _norm(self.config)
    self.self_attention = _attention(self.config)
    self.pre_cross_attention_layer_norm = _norm(self.config)
    self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = _dropout(self.config)

  def __call__(
    self,
    x: jax.Array,
    encoded: jax.Array,
    encoder_mask: jax.Array,
    bias: jax.Array | None,
    deterministic: bool,
  ) -> jax.Array:
    """x `[B, T, E]`, encoded `[B, S, E]`, mask bool `[B, S]`, bias `[1, H, T, T]`; returns `[B, T, E]`."""
    y = self.pre_self_attention_layer_norm(x)
    y = self.self_attention(y, y, deterministic, causal=True, bias=bias)
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.pre_cross_attention_layer_norm(x)
    y = self.encoder_decoder_attention(y, encoded, deterministic, key_mask=encoder_mask[:, None])
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)

  def init_cache(self, encoded: jax.Array, length: int) -> LayerCache:
    """Cross keys and values of `encoded` `[B, S, E]`, and room for `length` positions."""
    cross_key, cross_value = self.encoder_decoder_attention.key_value(encoded)
    shape = (encoded.shape[0] * self.config.num_heads, length, self.config.head_dim)
    empty = jnp.zeros(shape, cross_key.dtype)
    return LayerCache(empty, empty, cross_key, cross_value)

  def step(
    self,
    x: jax.Array,
    position: jax.Array,
    cache: LayerCache,
    encoder_mask: jax.Array,
    bias: jax.Array | None,
  ) -> tuple[jax.Array, LayerCache]:
    """`__call__` at one position: x `[B, 1, E]`, bias `[B·H, 1, T]`; returns `[B, 1, E]` and the cache."""
    y = self.pre_self_attention_layer_norm(x)
    key, value = self.self_attention.key_value(y)  # [B, H, 1, D]
    cache = cache._replace(
      self_key=_write(cache.self_key, key, position), self_value=_write(cache.self_value, value, position)
    )
    written = jnp.arange(cache.self_key.shape[1]) <= position  # [T]
    x = x + self.self_attention.attend(y, cache.self_key, cache.self_value, key_mask=written, bias=bias)
    y = self.pre_cross_attention_layer_norm(x)
    x = x + self.encoder_decoder_attention.attend(
      y, cache.cross_key, cache.cross_value, key_mask=encoder_mask[:, None]
    )
    return x + self.mlp(self.pre_mlp_layer_norm(x), True), cache


def _write(cached: jax.Array, new: jax.Array, position: jax.Array) -> jax.Array:
  """Puts `[B, H, 1, D]` at `position` of `[B·H, T, D]`."""
  return jax.lax.dynamic_update_slice_in_dim(cached, new.reshape(-1, 1, new.shape[-1]), position, axis=1)


def _layer_class(layer: type[nn.Module], config: EncoderDecoderConfig) -> type[nn.Module]:
  if not config.remat:
    return layer
  policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  deterministic = {EncoderLayer: 4, DecoderLayer: 5}[layer]  # positions among __call__'s arguments
  return nn.remat(layer, static_argnums=(deterministic,), policy=policy)


class Encoder(nn.Module):
  """The encoder's layers and final norm, on embedded tokens."""

  config: EncoderDecoderConfig

  def setup(self):
    layer = _layer_class(EncoderLayer, self.config)
    self.layers = [layer(self.config) for _ in range(self.config.num_encoder_layers)]
    self.relpos_bias = _relative_bias(self.config, bidirectional=True)
    self.encoder_norm = _norm(self.config)
    self.dropout = nn.Dropout(self.config.dropout_rate)

  def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
    """x `[B, S, E]`, mask bool `[B, S]`; returns `[B, S, E]`."""
    bias = self.relpos_bias(x.shape[1]) if self.relpos_bias else None
    for layer in self.layers:
      x = layer(x, mask, bias, deterministic)
    return self.dropout(self.encoder_norm(x), deterministic=deterministic)


class Decoder(nn.Module):
  """The decoder's layers, final norm and head, on embedded tokens."""

  config: EncoderDecoderConfig

  def setup(self):
    layer = _layer_class(DecoderLayer, self.config)
    self.layers = [layer(self.config) for _ in range(self.config.num_decoder_layers)]
    self.relpos_bias = _relative_bias(self.config, bidirectional=False)
    self.decoder_norm = _norm(self.config)
    self.dropout = _dropout(self.config)
    self.logits_dense = layers.Dense(self.config.vocab_size, ("embed", "vocab"), jnp.dtype("float32"))

  def __call__(self, x: jax.Array, encoded: jax.Array, encoder_mask: jax.Array, deterministic: bool):
    """x `[B, T, E]`, encoded `[B, S, E]`, mask bool `[B, S]`; returns float32 logits `[B, T, V]`."""
    bias = self.relpos_bias(x.shape[1]) if self.relpos_bias else None
    for layer in self.layers:
      x = layer(x, encoded, encoder_mask, bias, deterministic)
    x = self.dropout(self.decoder_norm(x), deterministic=deterministic)
    return self.logits_dense(x)

  def init_cache(self, encoded: jax.Array, encoder_mask: jax.Array, length: int) -> Cache:
    return Cache(tuple(layer.init_cache(encoded, length) for layer in self.layers), encoder_mask)

  def step(
    self, x: jax.Array, position: jax.Array, cache: Cache, columns: tuple[jax.Array, int]
  ) -> tuple[jax.Array, Cache]:
    """x `[B, 1, E]`; returns logits of the ids `columns = (start, size)`, `[B, 1, size]`."""
    length = cache.layers[0].self_key.shape[1]
    bias = None
    if self.relpos_bias:
      bias = jnp.tile(self.relpos_bias.row(position, length), (x.shape[0], 1, 1))  # [B·H, 1, T]
    caches = []
    for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
      x, layer_cache = layer.step(x, position, layer_cache, cache.encoder_mask, bias)
      caches.append(layer_cache)
    return self.logits_dense(self.decoder_norm(x), columns), cache._replace(layers=tuple(caches))


class EncoderDecoder(nn.Module):
  """The whole network. Padding (id 0) in the encoder's input is not attended to."""

  config: EncoderDecoderConfig

  def setup(self):
    config = self.config
    if config.vocab_size < 1:
      raise ValueError("EncoderDecoderConfig.vocab_size is not set; the system takes it from its vocabulary")
    self.token_embedder = layers.Embed(config.vocab_size, config.emb_dim, jnp.dtype(config.dtype))
    self.encoder = Encoder(config)
    self.decoder = Decoder(config)
    self.dropout = _dropout(config)

  def __call__(
    self, encoder_input_tokens: jax.Array, decoder_input_tokens: jax.Array, *, enable_dropout: bool
  ) -> jax.Array:
    """Teacher-forced logits: ids `[B, S]` and `[B, T]` to float32 `[B, T, V]`.

    With `enable_dropout` the call needs the rng stream 'dropout'.
    """
    encoded = self.encode(encoder_input_tokens, enable_dropout=enable_dropout)
    x = self._embed(decoder_input_tokens, not enable_dropout)
    return self.decoder(x, encoded, encoder_input_tokens > 0, not enable_dropout)

  def encode(self, encoder_input_tokens: jax.Array, *, enable_dropout: bool = False) -> jax.Array:
    """Ids `[B, S]` to `[B, S, E]`."""
    x = self._embed(encoder_input_tokens, not enable_dropout)
    return self.encoder(x, encoder_input_tokens > 0, not enable_dropout)

  def init_cache(self, encoded: jax.Array, encoder_input_tokens: jax.Array, length: int) -> Cache:
    """The cache before the first of `length` steps; encoded is `encode(encoder_input_tokens)`."""
    return self.decoder.init_cache(encoded, encoder_input_tokens > 0, length)

  def decode_step(
    self, token: jax.Array, position: jax.Array, cache: Cache, block_start: jax.Array, block_size: int
  ) -> tuple[jax.Array, Cache]:
    """One cached decoding step.

    Args:
      token: the decoder's input at `position`, int `[B]`.
      position: scalar, may be traced; every earlier position must be in the cache.
      block_start, block_size: the ids wanted, `block_start … block_start + block_size - 1`.

    Returns:
      Their float32 logits `[B, block_size]`, equal to those columns of `__call__`'s, and the cache.
    """
    length = cache.layers[0].self_key.shape[1]
    x = self._add_position(self.token_embedder(token[:, None]), position, length)
    logits, cache = self.decoder.step(x, position, cache, (block_start, block_size))
    return logits[:, 0], cache

  def _embed(self, tokens: jax.Array, deterministic: bool) -> jax.Array:
    """Ids `[B, L]` to `[B, L, E]`, with positions."""
    x = self._add_position(self.token_embedder(tokens), 0, tokens.shape[1])
    return self.dropout(x, deterministic=deterministic)

  def _add_position(self, x: jax.Array, first: jax.Array | int, length: int) -> jax.Array:
    """Adds sinusoids to embeddings `[B, L, E]` of the positions `first …` of `length`."""
    if self.config.position_scheme != "sinusoidal":
      return x
    table = jnp.asarray(positions.sinusoids(length, self.config.emb_dim))
    rows = jax.lax.dynamic_slice_in_dim(table, first, x.shape[1])  # [L, E]
    return (x + rows).astype(x.dtype)
