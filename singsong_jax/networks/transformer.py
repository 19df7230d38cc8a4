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
    kernel=config.attention,
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


def _sum(a: jax.Array | None, b: jax.Array | None) -> jax.Array | None:
  return a if b is None else b if a is None else a + b


class EncoderLayer(nn.Module):
  """Self-attention and MLP, each `x + dropout(f(norm(x)))`."""

  config: TransformerConfig

  def setup(self):
    self.pre_attention_layer_norm = _norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = embedding_dropout(self.config)

  def __call__(
    self, x: jax.Array, mask: jax.Array, bias: jax.Array | None, angles: positions.Angles, deterministic: bool
  ) -> jax.Array:
    """x `[B, S, E]`, mask bool `[B, S]`, bias `[1, H, S, S]`; returns `[B, S, E]`."""
    y = self.pre_attention_layer_norm(x)
    y = self.attention(y, y, deterministic, key_mask=mask[:, None], bias=bias, angles=angles)
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
    angles: positions.Angles,
    across: positions.InTime,
    deterministic: bool,
  ) -> jax.Array:
    """x `[B, T, E]`, encoded `[B, S, E]`, mask bool `[B, S]`, bias `[1, H, T, T]`; returns `[B, T, E]`."""
    y = self.pre_self_attention_layer_norm(x)
    y = self.self_attention(y, y, deterministic, causal=True, bias=bias, angles=angles)
    x = x + self.dropout(y, deterministic=deterministic)
    if self.has_encoder:
      assert encoded is not None and encoder_mask is not None
      y = self.pre_cross_attention_layer_norm(x)
      y = self.encoder_decoder_attention(
        y,
        encoded,
        deterministic,
        key_mask=encoder_mask[:, None],
        bias=across.fall,
        angles=across.angles,
      )
      x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)


# What `jax.checkpoint` may keep of a layer for its backward pass.
_REMAT_POLICIES = {
  "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


def _through(stack: nn.Module, layer: nn.Module, x: jax.Array, *inputs, deterministic: bool) -> jax.Array:
  """`x` through all layers of a stack, one by one or in a compiled loop: the same numbers either way.

  Args:
    stack: has `config` and `layers`, whose parameters are `layers_0`, `layers_1`, …
    layer: one of them, without parameters.
    inputs: what every layer is given besides `x`.
  """
  if stack.is_initializing():
    for each in stack.layers:
      x = each(x, *inputs, deterministic)
    return x
  config = stack.config
  every = [stack.variables["params"][f"layers_{i}"] for i in range(len(stack.layers))]
  keys = None if deterministic else jax.random.split(stack.make_rng("dropout"), len(every))

  def apply(x, params_and_key):
    params, key = params_and_key
    rngs = None if key is None else {"dropout": key}
    return layer.apply({"params": params}, x, *inputs, deterministic, rngs=rngs), None

  if config.remat != "none":
    # A loop keeps recomputed values apart from the first ones by itself.
    apply = jax.checkpoint(apply, policy=_REMAT_POLICIES[config.remat], prevent_cse=not config.scan_layers)
  if config.scan_layers:
    return jax.lax.scan(apply, x, (_stacked(every, jnp.dtype(config.dtype)), keys))[0]
  for i, params in enumerate(every):
    x, _ = apply(x, (params, None if keys is None else keys[i]))
  return x


def _stacked(trees: list, dtype: jnp.dtype):
  """The layers' parameters with a first axis for the layer, of the type that layers compute in."""
  return jax.tree.map(lambda *leaves: jnp.stack([leaf.astype(dtype) for leaf in leaves]), *nn.unbox(trees))


class Encoder(nn.Module):
  """The encoder's layers and final norm, on embedded tokens."""

  config: TransformerConfig
  num_layers: int

  def setup(self):
    self.layers = [EncoderLayer(self.config) for _ in range(self.num_layers)]
    self.relpos_bias = _relative_bias(self.config, bidirectional=True)
    self.encoder_norm = _norm(self.config)
    self.dropout = nn.Dropout(self.config.dropout_rate)

  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array,
    deterministic: bool,
    in_time: positions.InTime = positions.InTime(),
  ) -> jax.Array:
    """x `[B, S, E]`, mask bool `[B, S]`; returns `[B, S, E]`."""
    bias = _sum(in_time.fall, self.relpos_bias(x.shape[1]) if self.relpos_bias else None)
    layer = EncoderLayer(self.config, parent=None)
    x = _through(self, layer, x, mask, bias, in_time.angles, deterministic=deterministic)
    return self.dropout(self.encoder_norm(x), deterministic=deterministic)


class Decoder(nn.Module):
  """The decoder's layers, final norm and head, on embedded tokens. `cached_decoder.py` is its cached form."""

  config: TransformerConfig
  has_encoder: bool

  def setup(self):
    number = self.config.num_decoder_layers
    self.layers = [DecoderLayer(self.config, self.has_encoder) for _ in range(number)]
    self.relpos_bias = _relative_bias(self.config, bidirectional=False)
    self.decoder_norm = _norm(self.config)
    self.dropout = embedding_dropout(self.config)
    self.logits_dense = layers.Head(self.config.vocab_size, self.config.vocab_multiple)

  def __call__(
    self,
    x: jax.Array,
    encoded: jax.Array | None,
    encoder_mask: jax.Array | None,
    deterministic: bool,
    first_logit: int = 0,
    in_time: positions.InTime = positions.InTime(),
    across: positions.InTime = positions.InTime(),
  ) -> jax.Array:
    """Float32 logits of the positions from `first_logit` on: `[B, T - first_logit, V]`, V padded.

    x is `[B, T, E]`, encoded `[B, S, E]`, its mask bool `[B, S]`; `in_time` is of the attention to itself,
    `across` of that to the encoder.
    """
    bias = _sum(in_time.fall, self.relpos_bias(x.shape[1]) if self.relpos_bias else None)
    layer = DecoderLayer(self.config, self.has_encoder, parent=None)
    inputs = encoded, encoder_mask, bias, in_time.angles, across
    x = _through(self, layer, x, *inputs, deterministic=deterministic)
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
