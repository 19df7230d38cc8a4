"""Layers and stacks of T5.1.1 (Raffel et al. 2020; Shazeer 2020), which the networks are made of.

Numerically t5x's `examples/t5/network.py`, with its parameter names. Shapes: B batch, S encoder length,
T decoder length, E emb_dim, H heads, D head_dim, V vocabulary.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from singsong_jax.networks import layers, positions
from singsong_jax.networks.config import TransformerConfig


def _attention(config: TransformerConfig) -> layers.Attention:
  return layers.Attention(
    num_heads=config.num_heads,
    head_dim=config.head_dim,
    embed_dim=config.emb_dim,
    dropout_rate=config.dropout_rate,
    dtype=jnp.dtype(config.dtype),
  )


def _mlp(config: TransformerConfig) -> layers.Mlp:
  return layers.Mlp(config.mlp_dim, config.mlp_activations, config.dropout_rate, jnp.dtype(config.dtype))


def _norm(config: TransformerConfig) -> layers.RMSNorm:
  return layers.RMSNorm(jnp.dtype(config.dtype))


def embedding_dropout(config: TransformerConfig) -> nn.Dropout:
  """Dropout of embeddings and of what layers add to them."""
  return nn.Dropout(config.dropout_rate, broadcast_dims=(-2,))  # one mask for all positions, as in t5x


def _relative_bias(config: TransformerConfig, bidirectional: bool) -> positions.RelativePositionBias | None:
  if config.position_scheme != "relative_bias":
    return None
  return positions.RelativePositionBias(config.num_heads, bidirectional, jnp.dtype(config.dtype))


class EncoderLayer(nn.Module):
  """Self-attention and MLP, each `x + dropout(f(norm(x)))`."""

  config: TransformerConfig

  def setup(self):
    self.pre_attention_layer_norm = _norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = embedding_dropout(self.config)

  def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array | None, deterministic: bool):
    """x `[B, S, E]`, mask bool `[B, S]`, bias `[1, H, S, S]`; returns `[B, S, E]`."""
    y = self.pre_attention_layer_norm(x)
    y = self.attention(y, y, deterministic, key_mask=mask[:, None], bias=bias)
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)


class DecoderLayer(nn.Module):
  """Causal self-attention, attention to the encoder if there is one, MLP, each `x + dropout(f(norm(x)))`."""

  config: TransformerConfig
  has_encoder: bool

  def setup(self):
    self.pre_self_attention_layer_norm = _norm(self.config)
    self.self_attention = _attention(self.config)
    if self.has_encoder:
      self.pre_cross_attention_layer_norm = _norm(self.config)
      self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = embedding_dropout(self.config)

  def __call__(
    self,
    x: jax.Array,
    encoded: jax.Array | None,
    encoder_mask: jax.Array | None,
    bias: jax.Array | None,
    deterministic: bool,
  ) -> jax.Array:
    """x `[B, T, E]`, encoded `[B, S, E]`, mask bool `[B, S]`, bias `[1, H, T, T]`; returns `[B, T, E]`."""
    y = self.pre_self_attention_layer_norm(x)
    y = self.self_attention(y, y, deterministic, causal=True, bias=bias)
    x = x + self.dropout(y, deterministic=deterministic)
    if self.has_encoder:
      assert encoded is not None and encoder_mask is not None
      y = self.pre_cross_attention_layer_norm(x)
      y = self.encoder_decoder_attention(y, encoded, deterministic, key_mask=encoder_mask[:, None])
      x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)


def _layer_class(layer: type[nn.Module], config: TransformerConfig) -> type[nn.Module]:
  if not config.remat:
    return layer
  policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  deterministic = {EncoderLayer: 4, DecoderLayer: 5}[layer]  # positions among __call__'s arguments
  return nn.remat(layer, static_argnums=(deterministic,), policy=policy)


class Encoder(nn.Module):
  """The encoder's layers and final norm, on embedded tokens."""

  config: TransformerConfig
  num_layers: int

  def setup(self):
    layer = _layer_class(EncoderLayer, self.config)
    self.layers = [layer(self.config) for _ in range(self.num_layers)]
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
  """The decoder's layers, final norm and head, on embedded tokens. `cached_decoder.py` is its cached form."""

  config: TransformerConfig
  has_encoder: bool

  def setup(self):
    layer = _layer_class(DecoderLayer, self.config)
    self.layers = [layer(self.config, self.has_encoder) for _ in range(self.config.num_decoder_layers)]
    self.relpos_bias = _relative_bias(self.config, bidirectional=False)
    self.decoder_norm = _norm(self.config)
    self.dropout = embedding_dropout(self.config)
    self.logits_dense = layers.Dense(self.config.vocab_size, ("embed", "vocab"), jnp.dtype("float32"))

  def __call__(
    self,
    x: jax.Array,
    encoded: jax.Array | None,
    encoder_mask: jax.Array | None,
    deterministic: bool,
    first_logit: int = 0,
  ) -> jax.Array:
    """Float32 logits of the positions from `first_logit` on: `[B, T - first_logit, V]`.

    x is `[B, T, E]`, encoded `[B, S, E]`, its mask bool `[B, S]`.
    """
    bias = self.relpos_bias(x.shape[1]) if self.relpos_bias else None
    for layer in self.layers:
      x = layer(x, encoded, encoder_mask, bias, deterministic)
    x = self.dropout(self.decoder_norm(x), deterministic=deterministic)
    return self.logits_dense(x[:, first_logit:])


def add_positions(config: TransformerConfig, x: jax.Array, first: ArrayLike, length: int) -> jax.Array:
  """Adds sinusoids of the positions `first …` of `length` to embeddings `[B, L, E]`.

  Relative positions are a matter of the attention: with them nothing is added.
  """
  if config.position_scheme != "sinusoidal":
    return x
  table = jnp.asarray(positions.sinusoids(length, config.emb_dim))
  rows = jax.lax.dynamic_slice_in_dim(table, first, x.shape[1])  # [L, E]
  return (x + rows).astype(x.dtype)
