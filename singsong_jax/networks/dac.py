"""DAC, the Descript Audio Codec (Kumar et al. 2023, arXiv 2306.06546), with weights published for PyTorch.

    encoder    1 → C  k7 | blocks [3 residual units, dilations 1 3 9 | strided k=2s, channels × 2] | → D  k3
    quantizer  residual; each level looks up in 8 dimensions, by the angle between vectors
    decoder    D → C' k7 | blocks [transposed k=2s, channels / 2 | 3 residual units] | → 1  k7 | tanh

`descript/dac_16khz` has SoundStream's geometry: strides 2·4·5·8 at 16 kHz, 12 levels of 1024. Unlike
SoundStream it looks ahead. Arithmetic is float32 at the highest precision, so that codes do not depend on the
machine. Modules have the names of Hugging Face's, whose weights these are.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from singsong_jax.errors import InputError

_KERNEL = 7  # of the first and the last convolution, and of the residual units
_DILATIONS = (1, 3, 9)
_LATENT_KERNEL = 3  # of the encoder's last convolution
_PRECISION = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True, kw_only=True)
class DacConfig:
  """Sizes, under the names of Hugging Face's `config.json`.

  Attributes:
    downsampling_ratios: strides of the encoder's blocks; the decoder has them reversed. The hop is their
      product.
    encoder_hidden_size: C, doubled by every block.
    decoder_hidden_size: C', halved by every block.
    n_codebooks: levels.
    codebook_dim: dimensions in which entries are looked up.
  """

  sampling_rate: int
  downsampling_ratios: tuple[int, ...]
  encoder_hidden_size: int
  decoder_hidden_size: int
  n_codebooks: int
  codebook_size: int
  codebook_dim: int

  @property
  def hop_samples(self) -> int:
    return math.prod(self.downsampling_ratios)

  @property
  def latent_dim(self) -> int:
    """D."""
    return self.encoder_hidden_size * 2 ** len(self.downsampling_ratios)

  @property
  def decoder_context_frames(self) -> int:
    """A frame's samples depend on so many frames before and after it."""
    return decoder_reach(self.downsampling_ratios[::-1]) + _KERNEL // 2

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> Self:
    """Raises InputError where a size is missing or no whole number."""
    sizes = {field.name: values.get(field.name) for field in dataclasses.fields(cls)}
    for name, value in sizes.items():
      listed = value if name == "downsampling_ratios" else [value]
      if not isinstance(listed, Sequence) or not listed or not all(map(_is_size, listed)):
        raise InputError(f"{name} is {value!r}; expected whole numbers of at least 1")
    return cls(**sizes | {"downsampling_ratios": tuple(values["downsampling_ratios"])})


def _is_size(value: object) -> bool:
  return isinstance(value, int) and value >= 1


def decoder_reach(strides: Sequence[int]) -> int:
  """How many steps of what enters a decoder's first block a step's samples depend on, before and after it."""
  first, last = 0, math.prod(strides) - 1  # the samples of step 0, then the steps they depend on
  first, last = first - _KERNEL // 2, last + _KERNEL // 2
  for stride in reversed(strides):
    units = sum(dilation * (_KERNEL // 2) for dilation in _DILATIONS)
    padding = math.ceil(stride / 2)
    # Step t of the input reaches the outputs t·stride − padding … t·stride − padding + 2·stride − 1.
    first = math.ceil((first - units + padding - 2 * stride + 1) / stride)
    last = (last + units + padding) // stride
  return max(-first, last)


class Snake(nn.Module):
  """x + sin²(αx) / α, with one α a channel."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    alpha = self.param("alpha", nn.initializers.ones, (x.shape[-1],), jnp.float32)
    return x + jnp.square(jnp.sin(alpha * x)) / (alpha + 1e-9)


class Conv(nn.Module):
  """1-D convolution, padded by as much on both sides: `[B, T, in]` to `[B, T', features]`."""

  features: int
  kernel: int
  padding: int
  stride: int = 1
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.kernel, x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    y = jax.lax.conv_general_dilated(
      x,
      kernel,
      window_strides=(self.stride,),
      padding=[(self.padding, self.padding)],
      rhs_dilation=(self.dilation,),
      dimension_numbers=("NWC", "WIO", "NWC"),
      precision=_PRECISION,
    )
    return y + bias


class Upsampling(nn.Module):
  """PyTorch's transposed convolution of kernel 2·stride, cut by ⌈stride/2⌉ on both sides.

  `[B, T, in]` to `[B, T', features]`: T' = T · stride, and one less where the stride is odd. Each output step
  is made of two neighbouring input steps, so it is a convolution of kernel 2 with `stride` outputs a step.
  """

  features: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (2, x.shape[-1], self.stride * self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    y = jax.lax.conv_general_dilated(
      x,
      kernel,
      window_strides=(1,),
      padding=[(1, 1)],
      dimension_numbers=("NWC", "WIO", "NWC"),
      precision=_PRECISION,
    )
    y = y.reshape(x.shape[0], -1, self.features)
    margin = math.ceil(self.stride / 2)
    return y[:, margin : y.shape[1] - margin] + bias


class ResidualUnit(nn.Module):
  """x + conv₁(snake(conv₇(snake(x))))."""

  dilation: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    padding = self.dilation * (_KERNEL // 2)
    y = Conv(channels, _KERNEL, padding, dilation=self.dilation, name="conv1")(Snake(name="snake1")(x))
    return x + Conv(channels, 1, 0, name="conv2")(Snake(name="snake2")(y))


class Encoder(nn.Module):
  """Waveform to latent vectors."""

  config: DacConfig

  @nn.compact
  def __call__(self, waveform: jax.Array) -> jax.Array:
    """float32 `[B, T]` to `[B, T / hop, latent_dim]`; T is a multiple of the hop."""
    channels = self.config.encoder_hidden_size
    x = Conv(channels, _KERNEL, _KERNEL // 2, name="conv1")(waveform[..., None])
    for i, stride in enumerate(self.config.downsampling_ratios):
      for j, dilation in enumerate(_DILATIONS, start=1):
        x = ResidualUnit(dilation, name=f"block.{i}.res_unit{j}")(x)
      channels *= 2
      x = Snake(name=f"block.{i}.snake1")(x)
      x = Conv(channels, 2 * stride, math.ceil(stride / 2), stride=stride, name=f"block.{i}.conv1")(x)
    x = Snake(name="snake1")(x)
    return Conv(self.config.latent_dim, _LATENT_KERNEL, _LATENT_KERNEL // 2, name="conv2")(x)


class Decoder(nn.Module):
  """Latent vectors to a waveform."""

  config: DacConfig

  @nn.compact
  def __call__(self, latents: jax.Array) -> jax.Array:
    """float32 `[B, frames, latent_dim]` to `[B, T]`, |T| ≤ 1. Odd strides make T less than frames · hop."""
    channels = self.config.decoder_hidden_size
    x = Conv(channels, _KERNEL, _KERNEL // 2, name="conv1")(latents)
    for i, stride in enumerate(reversed(self.config.downsampling_ratios)):
      channels //= 2
      x = Upsampling(channels, stride, name=f"block.{i}.conv_t1")(Snake(name=f"block.{i}.snake1")(x))
      for j, dilation in enumerate(_DILATIONS, start=1):
        x = ResidualUnit(dilation, name=f"block.{i}.res_unit{j}")(x)
    x = Conv(1, _KERNEL, _KERNEL // 2, name="conv2")(Snake(name="snake1")(x))
    return jnp.tanh(x[..., 0])


class Quantizer(nn.Module):
  """Residual quantizer whose levels look up in few dimensions, among vectors of length 1."""

  config: DacConfig

  def setup(self):
    config, init = self.config, nn.initializers.normal(0.02)
    levels, dims = config.n_codebooks, config.codebook_dim
    param = lambda name, shape: self.param(name, init, (levels, *shape), jnp.float32)
    self.in_kernel = param("in_kernel", (config.latent_dim, dims))
    self.in_bias = param("in_bias", (dims,))
    self.codebook = param("codebook", (config.codebook_size, dims))
    self.out_kernel = param("out_kernel", (dims, config.latent_dim))
    self.out_bias = param("out_bias", (config.latent_dim,))

  def encode(self, latents: jax.Array) -> jax.Array:
    """float32 `[..., latent_dim]` to int32 `[..., n_codebooks]`."""

    def level(rest, parameters):
      in_kernel, in_bias, codebook, out_kernel, out_bias = parameters
      low = jnp.matmul(rest, in_kernel, precision=_PRECISION) + in_bias
      closeness = jnp.matmul(_unit(low), _unit(codebook).T, precision=_PRECISION)
      codes = jnp.argmax(closeness, axis=-1).astype(jnp.int32)
      return rest - (jnp.matmul(codebook[codes], out_kernel, precision=_PRECISION) + out_bias), codes

    levels = (self.in_kernel, self.in_bias, self.codebook, self.out_kernel, self.out_bias)
    return jnp.moveaxis(jax.lax.scan(level, latents, levels)[1], 0, -1)

  def decode(self, codes: jax.Array) -> jax.Array:
    """int `[..., levels ≤ n_codebooks]` to float32 `[..., latent_dim]`; absent levels add nothing."""
    total = jnp.zeros((), jnp.float32)
    for i in range(codes.shape[-1]):
      entries = self.codebook[i][codes[..., i]]
      total += jnp.matmul(entries, self.out_kernel[i], precision=_PRECISION) + self.out_bias[i]
    return total


def _unit(x: jax.Array) -> jax.Array:
  """`x` at length 1."""
  return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class Dac(nn.Module):
  """The whole codec. Each method is for `apply`; `latents` is what `encode` quantises."""

  config: DacConfig

  def setup(self):
    self.encoder = Encoder(self.config)
    self.quantizer = Quantizer(self.config)
    self.decoder = Decoder(self.config)

  def latents(self, waveform: jax.Array) -> jax.Array:
    """float32 `[B, frames · hop]` to `[B, frames, latent_dim]`."""
    return self.encoder(waveform)

  def encode(self, waveform: jax.Array) -> jax.Array:
    """float32 `[B, frames · hop]` to int32 `[B, frames, n_codebooks]`."""
    return self.quantizer.encode(self.encoder(waveform))

  def decode(self, codes: jax.Array) -> jax.Array:
    """int `[B, frames, levels]` to float32 `[B, frames · hop]`; silent where odd strides give no samples."""
    waveform = self.decoder(self.quantizer.decode(codes))
    missing = codes.shape[1] * self.config.hop_samples - waveform.shape[1]
    return jnp.pad(waveform, [(0, 0), (0, missing)])

  def __call__(self, waveform: jax.Array) -> jax.Array:
    return self.decode(self.encode(waveform))


def from_torch(weights: Mapping[str, np.ndarray], config: DacConfig) -> dict[str, Any]:
  """Variables of `Dac` from the weights of Hugging Face's `DacModel`, weight normalisation folded in.

  Raises:
    InputError: a weight is missing, left over or of another shape.
  """
  left = dict(weights)
  shapes = jax.eval_shape(lambda: Dac(config).init(jax.random.key(0), jnp.zeros((1, config.hop_samples))))
  parameters = jax.tree_util.tree_map_with_path(
    lambda path, leaf: _parameter([key.key for key in path[1:]], leaf, left, config), shapes
  )
  if left:
    raise InputError(f"{len(left)} weights are not DAC's, {min(left)} among them")
  return parameters


def _parameter(path: list[str], leaf: jax.ShapeDtypeStruct, left: dict, config: DacConfig) -> np.ndarray:
  """One of our parameters, from those of `left` that it consists of, which are taken out."""
  *modules, name = path
  if modules != ["quantizer"]:
    return _checked(path, _module_weight(".".join(modules), name, left), leaf.shape)
  levels = [_quantizer_weight(f"quantizer.quantizers.{i}", name, left) for i in range(config.n_codebooks)]
  return np.stack([_checked(path, level, leaf.shape[1:]) for level in levels])


def _checked(path: list[str], value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  if value.shape != shape:
    raise InputError(f"{'.'.join(path)} has shape {value.shape}; config.json makes it {shape}")
  return value.astype(np.float32)


def _module_weight(module: str, name: str, left: dict) -> np.ndarray:
  if name == "alpha":
    return _take(left, f"{module}.alpha").reshape(-1)
  if name == "bias":
    return _take(left, f"{module}.bias")
  weight = _weight(left, module)
  if not module.endswith("conv_t1"):
    return weight.transpose(2, 1, 0)  # [out, in, k]
  # [in, out, 2s]: the first half of a kernel meets the newer of two input steps.
  inputs, outputs, width = weight.shape
  halves = weight.reshape(inputs, outputs, 2, width // 2)[:, :, ::-1]
  return halves.transpose(2, 0, 3, 1).reshape(2, inputs, width // 2 * outputs)


def _quantizer_weight(level: str, name: str, left: dict) -> np.ndarray:
  if name == "codebook":
    return _take(left, f"{level}.codebook.weight")
  module, _, kind = name.partition("_")
  module = f"{level}.{module}_proj"
  return _take(left, f"{module}.bias") if kind == "bias" else _weight(left, module)[..., 0].T


def _weight(left: dict, module: str) -> np.ndarray:
  """A weight `[a, b, k]`: as it is, or as g · v / |v|, with a length for each of a."""
  for g, v in (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
  ):
    if f"{module}.{g}" in left:
      length, direction = _take(left, f"{module}.{g}"), _take(left, f"{module}.{v}")
      return direction * (length / np.sqrt(np.square(direction).sum(axis=(1, 2), keepdims=True)))
  return _take(left, f"{module}.weight")


def _take(left: dict, name: str) -> np.ndarray:
  if name not in left:
    raise InputError(f"the weight {name} is missing")
  return left.pop(name)
