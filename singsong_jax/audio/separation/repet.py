"""REPET-SIM (Rafii & Pardo 2012): a separator that needs no weights."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from singsong_jax.audio.separation import transform
from singsong_jax.audio.separation.base import Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepetSeparator:
  """REPET-SIM (Rafii & Pardo 2012): what repeats within the clip is accompaniment, the rest is voice.

  A classical method, a baseline. The accompaniment in a frame is taken to be the median of the frames
  most like it that are far enough away not to be of the same note.

  Attributes:
    min_lag_seconds: how far away those frames must be.
    lowest_voice_hz: all below is accompaniment (kick, bass).
  """

  name: str = dataclasses.field(default="repet", init=False)
  batch_clips: int = dataclasses.field(default=1, init=False)
  min_lag_seconds: float = 2.5
  lowest_voice_hz: float = 150.0

  def describe(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    return np.stack([self._separate(clip) for clip in clips])

  def _separate(self, clip: Clip) -> np.ndarray:
    import librosa  # Slow to import, and what only trains does not have it.

    lag_frames = math.ceil(self.min_lag_seconds * clip.sample_rate_hz / transform.HOP_SAMPLES)
    # A shorter clip gets silence to compare with: in it nothing repeats.
    spectrum = transform.stft(clip.mix, min_samples=4 * lag_frames * transform.HOP_SAMPLES)  # [bins, frames]
    magnitude = np.abs(spectrum)
    repeating = librosa.decompose.nn_filter(magnitude, aggregate=np.median, metric="cosine", width=lag_frames)
    mask = 1 - np.minimum(1, repeating / np.maximum(magnitude, 1e-9))
    hz = np.fft.rfftfreq(transform.FRAME_SAMPLES, 1 / clip.sample_rate_hz)
    mask[hz < self.lowest_voice_hz] = 0
    return transform.istft(spectrum * mask, len(clip.mix))
