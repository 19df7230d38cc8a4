"""What codecs of public weights have in common: shapes, checks and their file.

Their file holds settings, the weights' source and SHA-256, and no weights (`audio/public_weights.py`).
"""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from singsong_jax.audio.checks import require_finite_samples
from singsong_jax.audio.fitted_file import FittedFile, Stored
from singsong_jax.audio.public_weights import PublicWeights
from singsong_jax.codecs.base import check_codes
from singsong_jax.codecs.lapped_transform import split_blocks

_CLIPS = 4  # that are coded at once, to bound memory


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedCodec(Stored):
  """A `base.Codec`; subclasses load weights and know the network.

  Attributes:
    weights: what the network was loaded from.
    sample_rate_hz, hop_samples, num_levels, num_codes, context_frames: see `base.Codec`; from the network's
      configuration.
  """

  weights: PublicWeights
  sample_rate_hz: int
  hop_samples: int
  num_levels: int
  num_codes: int
  context_frames: int

  name: ClassVar[str]

  @property
  def frame_rate_hz(self) -> float:
    return self.sample_rate_hz / self.hop_samples

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """float `[..., samples]` to int32 `[..., ceil(samples / hop), num_levels]`, zeros on the right.

    Raises:
      InputError: a sample is NaN or infinite.
    """
    require_finite_samples(waveform)
    blocks = split_blocks(waveform, self.hop_samples)
    *batch, frames, hop = blocks.shape
    if not blocks.size:
      return np.zeros((*batch, frames, self.num_levels), np.int32)
    clips = blocks.reshape(-1, frames * hop)
    codes = np.concatenate([self._encode(clips[i : i + _CLIPS]) for i in range(0, len(clips), _CLIPS)])
    return codes.astype(np.int32).reshape(*batch, frames, self.num_levels)

  def decode(self, codes: np.ndarray, first_frame: int = 0) -> np.ndarray:
    """int `[..., frames, levels ≤ num_levels]` to float32 `[..., frames · hop]`.

    Args:
      first_frame: see `base.Codec`.

    Raises:
      InputError: too many levels, or a code out of range.
    """
    codes = np.asarray(codes)
    check_codes(codes, self)
    *batch, frames, levels = codes.shape
    if not codes.size:
      return np.zeros((*batch, frames * self.hop_samples), np.float32)
    clips = codes.reshape(-1, frames, levels)
    parts = [self._decode(clips[i : i + _CLIPS], first_frame) for i in range(0, len(clips), _CLIPS)]
    return np.concatenate(parts).astype(np.float32).reshape(*batch, frames * self.hop_samples)

  @abc.abstractmethod
  def _encode(self, clips: np.ndarray) -> np.ndarray:
    """float32 `[n, frames · hop]` to int `[n, frames, num_levels]`."""

  @abc.abstractmethod
  def _decode(self, clips: np.ndarray, first_frame: int) -> np.ndarray:
    """int `[n, frames, levels]` to float `[n, frames · hop]`."""

  def _settings(self) -> dict[str, Any]:
    """What `_load` takes besides weights, as JSON."""
    return {}

  @classmethod
  @abc.abstractmethod
  def _load(cls, weights: PublicWeights, **settings: Any) -> Self:
    """The codec. Raises InputError where the files hold another model."""

  def _file(self) -> FittedFile:
    settings = {"sha256": self.weights.sha256, **self._settings()}
    return FittedFile(kind=self.name, settings=settings, source=self.weights.describe(), arrays={})

  @classmethod
  def from_file(cls, file: FittedFile) -> Self:
    """Loads the weights a file names.

    Raises:
      InputError: they are missing or have changed, or a package is missing.
      KeyError, TypeError, ValueError: the content does not fit together.
    """
    settings = {name: value for name, value in file.settings.items() if name != "sha256"}
    return cls._load(PublicWeights.from_file(file), **settings)
