"""What tells real waveforms from decoded ones (SoundStream, §III-D): three of the waveform, one of its STFT.

Each gives logits along time, and the activations of its inner layers for the feature loss.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks.spectra import stft

_SLOPE = 0.2  # of leaky ReLU


class Judgement(NamedTuple):
  """What one discriminator says: `logits [B, steps]`, and the activations of its inner layers."""

  logits: jax.Array
  features: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
  """Sizes of all discriminators; the paper's are the defaults.

  Attributes:
    waveform_scales: each hears the waveform at half the rate of the one before.
    waveform_channels: of its first layer; four times as many in each of the next four, up to 1024.
    stft_windows: in samples, one discriminator each; hops are a quarter.
    stft_channels: of its first layer.
  """

  waveform_scales: int = 3
  waveform_channels: int = 16
  stft_windows: tuple[int, ...] = (1024,)
  stft_channels: int = 32

  def __post_init__(self):
    object.__setattr__(self, "stft_windows", tuple(self.stft_windows))
    if (
      self.waveform_channels < 1
      or self.stft_channels < 1
      or self.waveform_scales + len(self.stft_windows) < 1
    ):
      raise InputError(f"discriminators need at least one network of at least one channel, got {self}")
    if any(window < 256 or window & (window - 1) for window in self.stft_windows):
      raise InputError(f"stft_windows must be powers of 2 from 256 up, got {self.stft_windows}")

  def describe(self) -> dict[str, Any]:
    """As JSON values."""
    return {**dataclasses.asdict(self), "stft_windows": list(self.stft_windows)}


class WaveformDiscriminator(nn.Module):
  """Strided, grouped convolutions (MelGAN's)."""

  channels: int

  @nn.compact
  def __call__(self, waveform: jax.Array) -> Judgement:
    """float32 `[B, T]`."""
    x, features, channels = waveform[..., None], [], self.channels
    x = nn.leaky_relu(nn.Conv(channels, (15,), name="first")(x), _SLOPE)
    features.append(x)
    for i in range(4):
      groups = max(1, channels // 4)
      channels = min(1024, channels * 4)
      conv = nn.Conv(channels, (41,), strides=(4,), feature_group_count=groups, name=f"down_{i}")
      x = nn.leaky_relu(conv(x), _SLOPE)
      features.append(x)
    x = nn.leaky_relu(nn.Conv(channels, (5,), name="wide")(x), _SLOPE)
    features.append(x)
    return Judgement(nn.Conv(1, (3,), name="logits")(x)[..., 0], tuple(features))


class StftDiscriminator(nn.Module):
  """Residual 2-D convolutions over the complex STFT, real and imaginary parts as channels."""

  window: int
  channels: int

  @nn.compact
  def __call__(self, waveform: jax.Array) -> Judgement:
    """float32 `[B, T]`."""
    hop = self.window // 4
    spectra = stft(waveform, self.window, hop)[..., :-1] * (self.window / 8)  # of about unit size
    x = jnp.stack([spectra.real, spectra.imag], axis=-1)  # [B, frames, window / 2, 2]
    x, features = nn.Conv(self.channels, (7, 7), name="first")(x), []
    for i, multiple in enumerate((1, 2, 4, 4, 8, 8)):
      strides = (1, 2) if i % 2 == 0 else (2, 2)
      x = _StridedUnit(self.channels * multiple, strides, name=f"unit_{i}")(x)
      features.append(x)
    # A kernel of all that is left of the frequencies collapses them.
    logits = nn.Conv(1, (1, x.shape[2]), padding="VALID", name="logits")(nn.elu(x))
    return Judgement(logits[:, :, 0, 0], tuple(features))


class _StridedUnit(nn.Module):
  """3 × 3, then (s + 2) × (s + 2) with stride s, beside a strided 1 × 1."""

  channels: int
  strides: tuple[int, int]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = tuple(stride + 2 for stride in self.strides)
    y = nn.Conv(x.shape[-1], (3, 3), name="plain")(nn.elu(x))
    y = nn.Conv(self.channels, kernel, strides=self.strides, name="strided")(nn.elu(y))
    return y + nn.Conv(self.channels, (1, 1), strides=self.strides, name="shortcut")(x)


class Discriminators(nn.Module):
  """All of them: `[B, T]` to a `Judgement` each."""

  config: DiscriminatorConfig

  @nn.compact
  def __call__(self, waveform: jax.Array) -> list[Judgement]:
    config = self.config
    judgements = []
    halved = waveform
    for i in range(config.waveform_scales):
      if i:
        halved = nn.avg_pool(halved[..., None], (4,), strides=(2,), padding=((1, 1),))[..., 0]
      judgements.append(WaveformDiscriminator(config.waveform_channels, name=f"waveform_{i}")(halved))
    for window in config.stft_windows:
      judgements.append(StftDiscriminator(window, config.stft_channels, name=f"stft_{window}")(waveform))
    return judgements


def discriminator_loss(real: list[Judgement], decoded: list[Judgement]) -> jax.Array:
  """Hinge: max(0, 1 − D(x)) + max(0, 1 + D(x̂)), over time, then discriminators: `[B]`."""
  of_each = [
    jnp.mean(nn.relu(1 - r.logits), axis=1) + jnp.mean(nn.relu(1 + d.logits), axis=1)
    for r, d in zip(real, decoded)
  ]
  return jnp.mean(jnp.stack(of_each), axis=0)


def adversarial_loss(decoded: list[Judgement]) -> jax.Array:
  """max(0, 1 − D(x̂)): `[B]`."""
  return jnp.mean(jnp.stack([jnp.mean(nn.relu(1 - d.logits), axis=1) for d in decoded]), axis=0)


def feature_loss(real: list[Judgement], decoded: list[Judgement]) -> jax.Array:
  """Mean |Δ| of each inner layer, over layers and discriminators: `[B]`."""
  distances = [
    jnp.mean(jnp.abs(jax.lax.stop_gradient(a) - b), axis=range(1, a.ndim))
    for r, d in zip(real, decoded)
    for a, b in zip(r.features, d.features)
  ]
  return jnp.mean(jnp.stack(distances), axis=0)
