"""The only dense layer, attention block, MLP, norm, embedding and head in the project: T5.1.1's, as in t5x.

No layer has a bias. Parameters are float32 and carry t5x's logical axis names, activations are of
`dtype`. Sequences are `[batch, length, features]`; inside attention heads come before length
(`[batch, heads, length, head_dim]`).
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.networks.attention import MASKED, dot_product_attention, rotate


def parameter(
  module: nn.Module,
  name: str,
  init: nn.initializers.Initializer,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
) -> jax.Array:
  """A float32 parameter of `module` that carries the logical names of its `axes`."""
  boxed_init: Callable[..., Any] = nn.with_logical_partitioning(init, axes)
  return module.param(name, boxed_init, shape, jnp.float32)


def gathered(kernel: jax.Array, axes: tuple[str, ...]) -> jax.Array:
  """A weight as a product reads it: no longer cut along 'embed'.

  Left to itself, the compiler for TPUs multiplies by the slices of a weight one at a time as they arrive, and
  those of many devices have fewer rows than a matrix unit.
  """
  return nn.with_logical_constraint(kernel, tuple(None if axis == "embed" else axis for axis in axes))


class Dense(nn.Module):
  """`x @ kernel`; the kernel is `[in, features]` with logical names `axes`."""

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
    1.0, "fan_in", "truncated_normal"
  )

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[..., in]` to `[..., features]`."""
    kernel = parameter(self, "kernel", self.kernel_init, (x.shape[-1], self.features), self.axes)
    return x.astype(self.dtype) @ gathered(kernel.astype(self.dtype), self.axes)


class RMSNorm(nn.Module):
  """T5's layer norm: divides by the root mean square; no mean, no bias (Zhang and Sennrich 2019)."""

  dtype: jnp.dtype
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = parameter(self, "scale", nn.initializers.ones, (x.shape[-1],), ("embed",))
    return rms_norm(x, scale.astype(self.dtype), self.epsilon)


def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float = 1e-6) -> jax.Array:
  """`x / rms(x) · scale` over the last axis of `[..., features]`, in float32; of `scale`'s dtype."""
  x = x.astype(jnp.float32)
  mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return (x * jax.lax.rsqrt(mean_square + epsilon)).astype(scale.dtype) * scale


class Embed(nn.Module):
  """Token ids to vectors. An id outside the vocabulary becomes NaN, so that it cannot go unseen."""

  num_embeddings: int
  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """int `[batch, length]` to `[batch, length, features]`."""
    shape, init = (self.num_embeddings, self.features), nn.initializers.normal(stddev=1.0)
    embedding = parameter(self, "embedding", init, shape, ("vocab", "embed"))
    # Whole on every device: looking rows up in a table cut along 'embed' would move the activations instead.
    table = nn.with_logical_constraint(embedding.astype(self.dtype), (None, None))
    x = jnp.take(table, tokens, axis=0)
    return nn.with_logical_constraint(x, ("batch", "length", "embed"))


class Head(nn.Module):
  """Float32 logits of the vocabulary, padded to a multiple of `multiple` ids whose logits are `MASKED`."""

  vocab_size: int
  multiple: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[batch, length, embed]` to `[batch, length, vocab_size + padding]`."""
    init, shape = Dense.kernel_init, (x.shape[-1], self.vocab_size)
    kernel = parameter(self, "kernel", init, shape, ("embed", "vocab"))
    padding = -self.vocab_size % self.multiple
    if padding:  # here and not in the parameters, which are the same on every mesh
      kernel = jnp.pad(kernel, ((0, 0), (0, padding)))
    kernel = gathered(kernel, ("embed", "vocab"))
    logits = nn.with_logical_constraint(x.astype(jnp.float32) @ kernel, ("batch", "length", "vocab"))
    if padding:
      logits = jnp.where(jnp.arange(self.vocab_size + padding) < self.vocab_size, logits, MASKED)
    return logits


class Mlp(nn.Module):
  """Product of `activation_i(x @ wi_i)`, dropout, `@ wo`. `('gelu', 'linear')` is the gated GELU."""

  mlp_dim: int
  activations: Sequence[str]
  dropout_rate: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
    """`[batch, length, embed]` to the same shape."""
    factors = []
    for i, activation in enumerate(self.activations):
      name = f"wi_{i}" if len(self.activations) > 1 else "wi"
      factor = Dense(self.mlp_dim, ("embed", "mlp"), self.dtype, name=name)(x)
      factors.append(factor if activation == "linear" else getattr(nn, activation)(factor))
    hidden = functools.reduce(operator.mul, factors)  # [batch, length, mlp]
    hidden = nn.Dropout(self.dropout_rate, broadcast_dims=(-2,))(hidden, deterministic=deterministic)
    hidden = nn.with_logical_constraint(hidden, ("batch", "length", "mlp"))
    return Dense(x.shape[-1], ("mlp", "embed"), self.dtype, name="wo")(hidden)


class Attention(nn.Module):
  """Multi-head dot-product attention.

  Logits are not divided by √head_dim: the initial query kernel is instead, which amounts to the
  same under Adafactor (t5x).
  """

  num_heads: int
  head_dim: int
  embed_dim: int
  dropout_rate: float
  dtype: jnp.dtype
  kernel: str = "xla"

  def setup(self):
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    query_init = lambda *args: init(*args) / math.sqrt(self.head_dim)
    joined = self.num_heads * self.head_dim
    self.query = Dense(joined, ("embed", "joined_kv"), self.dtype, query_init)
    self.key = Dense(joined, ("embed", "joined_kv"), self.dtype, init)
    self.value = Dense(joined, ("embed", "joined_kv"), self.dtype, init)
    self.out = Dense(self.embed_dim, ("joined_kv", "embed"), self.dtype, init)
    # T5 drops a key from all queries of a head at once. That is to drop its value.
    self.dropout = nn.Dropout(self.dropout_rate, broadcast_dims=(-1,))

  def __call__(
    self,
    inputs_q: jax.Array,
    inputs_kv: jax.Array,
    deterministic: bool,
    *,
    causal: bool = False,
    key_mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    angles: tuple[jax.Array, jax.Array] | None = None,
  ) -> jax.Array:
    """`[batch, queries, embed]` and the `[batch, keys, embed]` they look into, to `inputs_q`'s shape.

    For `causal`, `key_mask`, `bias` and the attribute `kernel` see `dot_product_attention`;
    for `angles` `positions.InTime`.
    """
    query, key, value = self.query(inputs_q), self.key(inputs_kv), self.value(inputs_kv)
    query, key, value = map(self._split_heads, (query, key, value))  # [batch, heads, length, head_dim]
    if angles is not None:
      query, key = (rotate(x, by) for x, by in zip((query, key), angles, strict=True))
    value = self.dropout(value, deterministic=deterministic)
    # One row is initialised, which no mesh divides.
    kernel = "xla" if self.is_initializing() else self.kernel
    x = dot_product_attention(query, key, value, causal=causal, key_mask=key_mask, bias=bias, kernel=kernel)
    x = x.swapaxes(1, 2)  # [batch, queries, heads, head_dim]
    return self.out(x.reshape(*x.shape[:2], -1))

  def _split_heads(self, x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
    x = nn.with_logical_constraint(x, ("batch", "length", "heads", "kv"))
    return x.swapaxes(1, 2)
