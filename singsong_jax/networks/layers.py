"""The only dense layer, attention, MLP, norm and embedding in the project: T5.1.1's, as in t5x.

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

# Added to the logits of forbidden keys, as in t5x: finite, so a row without any legal key stays finite.
MASKED = -1e10
# Causal attention goes by this many queries at a time, each chunk against the keys up to its end: half
# the work and a fraction of the memory of a full square.
CAUSAL_CHUNK = 256


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
    return x.astype(self.dtype) @ kernel.astype(self.dtype)


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
    x = jnp.take(embedding.astype(self.dtype), tokens, axis=0)
    return nn.with_logical_constraint(x, ("batch", "length", "embed"))


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
  ) -> jax.Array:
    """`[batch, queries, embed]` and the `[batch, keys, embed]` they look into, to `inputs_q`'s shape.

    For `causal`, `key_mask` and `bias` see `dot_product_attention`.
    """
    query, key, value = self.query(inputs_q), self.key(inputs_kv), self.value(inputs_kv)
    query, key, value = map(self._split_heads, (query, key, value))  # [batch, heads, length, head_dim]
    value = self.dropout(value, deterministic=deterministic)
    x = dot_product_attention(query, key, value, causal=causal, key_mask=key_mask, bias=bias)
    x = x.swapaxes(1, 2)  # [batch, queries, heads, head_dim]
    return self.out(x.reshape(*x.shape[:2], -1))

  def _split_heads(self, x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
    x = nn.with_logical_constraint(x, ("batch", "length", "heads", "kv"))
    return x.swapaxes(1, 2)


def dot_product_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  causal: bool = False,
  key_mask: jax.Array | None = None,
  bias: jax.Array | None = None,
) -> jax.Array:
  """`softmax(query · keyᵀ + bias) · value`: every attention of the project goes through here.

  `…` is `batch, heads`, or the two joined.

  Args:
    query: `[…, queries, head_dim]`.
    key, value: `[…, keys, head_dim]`.
    causal: query i sees keys `0 … i`; needs as many keys as queries.
    key_mask: bool, broadcastable to `[…, keys]`, True where a key may be seen.
    bias: added to the logits, `[…, queries, keys]` with any of `…` 1 or missing.

  Returns:
    `[…, queries, head_dim]`, of `value`'s dtype. The softmax is computed in float32.
  """
  if key_mask is not None:
    mask = jnp.where(key_mask, 0.0, MASKED)[..., None, :]
    bias = mask if bias is None else bias + mask
  if not causal:
    return _attend(query, key, value, bias)
  length = query.shape[-2]
  chunks = []
  for start in range(0, length, CAUSAL_CHUNK):
    stop = min(start + CAUSAL_CHUNK, length)
    future = jnp.arange(start, stop)[:, None] < jnp.arange(stop)
    chunk_bias = jnp.where(future, MASKED, 0.0)  # [chunk, stop]
    if bias is not None:
      chunk_bias += jnp.broadcast_to(bias, (*bias.shape[:-2], length, length))[..., start:stop, :stop]
    keys, values = key[..., :stop, :], value[..., :stop, :]
    chunks.append(_attend(query[..., start:stop, :], keys, values, chunk_bias))
  return jnp.concatenate(chunks, axis=-2)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None) -> jax.Array:
  logits = jnp.einsum("...qd,...kd->...qk", query, key, preferred_element_type=jnp.float32)
  if bias is not None:
    logits += bias
  # Dividing after the product with the values touches head_dim numbers a query instead of all keys.
  weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
  total = weights.sum(axis=-1, keepdims=True)  # […, queries, 1]
  mixed = jnp.einsum(
    "...qk,...kd->...qd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
  )
  return (mixed / total).astype(value.dtype)
