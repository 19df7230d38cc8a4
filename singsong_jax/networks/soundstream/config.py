"""Sizes of the generator, and what follows from them."""

import dataclasses
import math
from typing import Any, Self

from singsong_jax.errors import InputError
from singsong_jax.networks.config import DTYPES

KERNEL = 7  # of the first and the last convolution, and of the residual units
DILATIONS = (1, 3, 9)
LATENT_KERNEL = 3  # of the encoder's last convolution


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
  """The generator: encoder, quantizer, decoder (SoundStream, §III-A to C).

  Attributes:
    sample_rate_hz: of waveforms.
    strides: of the encoder's blocks, outermost first; the decoder has them reversed. Their product is the
      hop.
    encoder_channels: C of the encoder, doubled by every block.
    decoder_channels: C of the decoder. The encoder is what a corpus waits for; it may be the smaller one.
    latent_dim: D of the vectors that are quantised. The paper does not give it.
    num_levels: codebooks, coarse to fine.
    num_codes: entries of each.
    dtype: of activations. Parameters, the quantizer and the waveform are float32.

  Raises:
    InputError: a size that is no whole number above 0, or an unknown dtype.
  """

  sample_rate_hz: int = 16_000
  strides: tuple[int, ...] = (2, 4, 5, 8)
  encoder_channels: int = 32
  decoder_channels: int = 32
  latent_dim: int = 128
  num_levels: int = 12
  num_codes: int = 1024
  dtype: str = "float32"

  def __post_init__(self):
    object.__setattr__(self, "strides", tuple(self.strides))  # gin and JSON give lists
    if self.dtype not in DTYPES:
      raise InputError(f"dtype is {self.dtype!r}; choose one of {', '.join(DTYPES)}")
    sizes = {name: value for name, value in vars(self).items() if name not in ("strides", "dtype")}
    sizes |= {f"strides[{i}]": stride for i, stride in enumerate(self.strides)}
    for name, size in sizes.items():
      if not isinstance(size, int) or size < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {size!r}")
    if not self.strides:
      raise InputError("strides are empty; the paper's are (2, 4, 5, 8)")

  @property
  def hop_samples(self) -> int:
    """Samples of a frame: 320."""
    return math.prod(self.strides)

  @property
  def frame_rate_hz(self) -> float:
    return self.sample_rate_hz / self.hop_samples

  @property
  def decoder_context_frames(self) -> int:
    """A frame's samples depend on itself and so many frames before it; on none after it."""
    reach = KERNEL - 1  # samples before, at the rate of the frames
    rate = 1
    for stride in reversed(self.strides):
      reach = (reach + 1) * stride  # a transposed convolution also reads the step before
      rate *= stride
      reach += sum((KERNEL - 1) * dilation for dilation in DILATIONS)
    return -(-(reach + KERNEL - 1) // rate)

  def describe(self) -> dict[str, Any]:
    """As JSON values."""
    return {**dataclasses.asdict(self), "strides": list(self.strides)}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> Self:
    """Inverse of `describe`."""
    return cls(**description)
