"""Encoder and decoder: causal convolutions without norms (SoundStream, §III-A, B).

    encoder   1 → C  k7 | 4 × [3 residual units, dilations 1 3 9 | strided k=2s, channels × 2] | → D  k3
    decoder   D → 16C k7 | 4 × [transposed k=2s, channels / 2 | 3 residual units] | → 1  k7

Nothing looks ahead: an output depends on inputs up to its own time. So a stream can be computed in chunks,
  with
what each convolution still needs of the past kept in the collection 'stream', and gives what the whole gives.
ELU comes before every convolution but the first, as in EnCodec; the paper's figure does not say where.

At first residual units add nothing and kernels are orthogonal, so that the whole is close to a linear
transform that
keeps sizes: there are no norms to do so, and a waveform's phases are learned within hundreds of steps.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.networks.soundstream.config import DILATIONS, KERNEL, LATENT_KERNEL, SoundStreamConfig

_ZEROS = nn.initializers.zeros
_LATENT_SCALE = 8.0  # latents of music, some 0.1 of full scale, begin with about unit size
STREAM = "stream"  # the collection of past inputs; mutable while a stream is computed in chunks


class CausalConv(nn.Module):
  """1-D convolution padded on the left alone: `[B, T, in]` to `[B, T / stride, features]`."""

  features: int
  kernel: int
  dtype: jnp.dtype
  stride: int = 1
  dilation: int = 1
  kernel_init: nn.initializers.Initializer = nn.initializers.orthogonal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", self.kernel_init, (self.kernel, x.shape[-1], self.features), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    x = jax.lax.conv_general_dilated(
      self._with_past(x.astype(self.dtype)),
      kernel.astype(self.dtype),
      window_strides=(self.stride,),
      padding="VALID",
      rhs_dilation=(self.dilation,),
      dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return x + bias.astype(self.dtype)

  def _with_past(self, x: jax.Array) -> jax.Array:
    """`x` after the inputs that the first output needs: zeros, or the end of the chunk before."""
    length = self.dilation * (self.kernel - 1) + 1 - self.stride
    if self.is_initializing() or not self.is_mutable_collection(STREAM):
      return jnp.pad(x, ((0, 0), (length, 0), (0, 0)))
    past = self.variable(STREAM, "past", jnp.zeros, (x.shape[0], length, x.shape[-1]), x.dtype)
    joined = jnp.concatenate([past.value, x], axis=1)
    past.value = joined[:, joined.shape[1] - length :]
    return joined


class CausalUpsampling(nn.Module):
  """Transposed convolution of kernel 2·stride: `[B, T, in]` to `[B, T · stride, features]`.

  Each output step is made of an input step and the one before it, so it is a convolution of kernel 2 with
  `stride` outputs a step.
  """

  features: int
  stride: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = CausalConv(self.features * self.stride, 2, self.dtype, name="conv")(x)
    return x.reshape(x.shape[0], x.shape[1] * self.stride, self.features)


class ResidualUnits(nn.Module):
  """Three of `x + conv₁(ELU(conv₇(ELU(x))))`, with dilations 1, 3, 9."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    for dilation in DILATIONS:
      y = CausalConv(channels, KERNEL, self.dtype, dilation=dilation, name=f"wide_{dilation}")(nn.elu(x))
      narrow = CausalConv(channels, 1, self.dtype, kernel_init=_ZEROS, name=f"narrow_{dilation}")
      x = x + narrow(nn.elu(y))
    return x


class Encoder(nn.Module):
  """Waveform to latent vectors."""

  config: SoundStreamConfig

  @nn.compact
  def __call__(self, waveform: jax.Array) -> jax.Array:
    """float `[B, T]` to float32 `[B, T / hop, latent_dim]`; T is a multiple of the hop."""
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    channels = config.encoder_channels
    x = CausalConv(channels, KERNEL, dtype, name="first")(waveform[..., None])
    for i, stride in enumerate(config.strides):
      x = ResidualUnits(dtype, name=f"units_{i}")(x)
      channels *= 2
      x = CausalConv(channels, 2 * stride, dtype, stride=stride, name=f"down_{i}")(nn.elu(x))
    init = nn.initializers.orthogonal(_LATENT_SCALE)
    x = CausalConv(config.latent_dim, LATENT_KERNEL, dtype, kernel_init=init, name="last")(nn.elu(x))
    return x.astype(jnp.float32)


class Decoder(nn.Module):
  """Latent vectors to a waveform."""

  config: SoundStreamConfig

  @nn.compact
  def __call__(self, latents: jax.Array) -> jax.Array:
    """float `[B, frames, latent_dim]` to float32 `[B, frames · hop]`."""
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    channels = config.decoder_channels * 2 ** len(config.strides)
    init = nn.initializers.orthogonal(1 / _LATENT_SCALE)
    x = CausalConv(channels, KERNEL, dtype, kernel_init=init, name="first")(latents)
    for i, stride in enumerate(reversed(config.strides)):
      channels //= 2
      x = CausalUpsampling(channels, stride, dtype, name=f"up_{i}")(nn.elu(x))
      x = ResidualUnits(dtype, name=f"units_{i}")(x)
    x = CausalConv(1, KERNEL, dtype, name="last")(nn.elu(x))
    return x[..., 0].astype(jnp.float32)
