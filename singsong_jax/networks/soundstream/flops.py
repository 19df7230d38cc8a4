"""Multiplications and additions of the generator, by counting its convolutions."""

from singsong_jax.networks.soundstream.config import DILATIONS, KERNEL, LATENT_KERNEL, SoundStreamConfig


def generator_macs(config: SoundStreamConfig, num_samples: int) -> float:
  """Multiply-accumulates of encoding, quantising and decoding `num_samples` samples."""
  frames = num_samples / config.hop_samples
  quantizer = config.num_levels * config.num_codes * config.latent_dim * frames
  return encoder_macs(config, num_samples) + quantizer + decoder_macs(config, num_samples)


def encoder_macs(config: SoundStreamConfig, num_samples: int) -> float:
  """Of encoding, up to the latents."""
  channels, length = config.encoder_channels, float(num_samples)
  total = length * KERNEL * channels
  for stride in config.strides:
    total += _units(channels, length)
    length /= stride
    total += length * 2 * stride * channels * 2 * channels
    channels *= 2
  return total + length * LATENT_KERNEL * channels * config.latent_dim


def decoder_macs(config: SoundStreamConfig, num_samples: int) -> float:
  """Of decoding, from the latents."""
  channels, length = config.decoder_channels * 2 ** len(config.strides), num_samples / config.hop_samples
  total = length * KERNEL * config.latent_dim * channels
  for stride in reversed(config.strides):
    length *= stride
    total += length * 2 * channels * channels // 2
    channels //= 2
    total += _units(channels, length)
  return total + length * KERNEL * channels


def _units(channels: int, length: float) -> float:
  return length * len(DILATIONS) * (KERNEL + 1) * channels**2
