"""Conformer blocks (Gulati et al. 2020), as w2v-BERT stacks them.

    x + ½ FFN  →  + attention (relative positions)  →  + convolution  →  + ½ FFN  →  layer norm

Norms come first in each branch. The convolution's norm is a layer norm, not a batch norm: it has no state,
and small batches do not disturb it. Relative positions are T5's bias, one table a block.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.networks.layers import Attention, Dense, Mlp, parameter
from singsong_jax.networks.positions import RelativePositionBias


class LayerNorm(nn.Module):
  """Zero mean and unit variance over the features, then gain and bias; in float32, of `dtype`."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = parameter(self, "scale", nn.initializers.ones, (x.shape[-1],), ("embed",))
    bias = parameter(self, "bias", nn.initializers.zeros, (x.shape[-1],), ("embed",))
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
    return (x * scale + bias).astype(self.dtype)


class DepthwiseConv(nn.Module):
  """Each channel by itself along time, centred: `[B, T, d]` to the same; zeros beyond both ends."""

  kernel: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=0, out_axis=1)
    kernel = parameter(self, "kernel", init, (self.kernel, x.shape[-1]), ("kv", "embed")).astype(self.dtype)
    left = (self.kernel - 1) // 2
    padded = jnp.pad(x, ((0, 0), (left, self.kernel - 1 - left), (0, 0)))
    # Shifted products: grouped convolutions of one channel each are slow on CPUs.
    return sum(
      (padded[:, i : i + x.shape[1]] * kernel[i] for i in range(self.kernel)), jnp.zeros((), self.dtype)
    )


class ConvolutionModule(nn.Module):
  """Norm, pointwise with a gate, depthwise, norm, swish, pointwise."""

  kernel: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    features = x.shape[-1]
    x = LayerNorm(self.dtype, name="norm")(x)
    value = Dense(features, ("embed", "mlp"), self.dtype, name="value")(x)
    gate = Dense(features, ("embed", "mlp"), self.dtype, name="gate")(x)
    x = DepthwiseConv(self.kernel, self.dtype, name="depthwise")(value * nn.sigmoid(gate))
    x = nn.swish(LayerNorm(self.dtype, name="inner_norm")(x))
    return Dense(features, ("mlp", "embed"), self.dtype, name="out")(x)


class ConformerBlock(nn.Module):
  """One block: `[B, T, d]` to the same, after its final norm."""

  num_heads: int
  mlp_dim: int
  conv_kernel: int
  dropout_rate: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
    features = x.shape[-1]
    dropout = nn.Dropout(self.dropout_rate, deterministic=deterministic)
    x = x + 0.5 * dropout(self._mlp("mlp_before", x, deterministic))
    bias = RelativePositionBias(self.num_heads, True, self.dtype, name="relative_bias")(x.shape[1])
    attention = Attention(
      self.num_heads, features // self.num_heads, features, self.dropout_rate, self.dtype, name="attention"
    )
    normed = LayerNorm(self.dtype, name="attention_norm")(x)
    x = x + dropout(attention(normed, normed, deterministic, bias=bias))
    x = x + dropout(ConvolutionModule(self.conv_kernel, self.dtype, name="convolution")(x))
    x = x + 0.5 * dropout(self._mlp("mlp_after", x, deterministic))
    return LayerNorm(self.dtype, name="final_norm")(x)

  def _mlp(self, name: str, x: jax.Array, deterministic: bool) -> jax.Array:
    normed = LayerNorm(self.dtype, name=f"{name}_norm")(x)
    return Mlp(self.mlp_dim, ("swish",), self.dropout_rate, self.dtype, name=name)(normed, deterministic)
