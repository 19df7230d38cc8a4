"""A stand-in for a good separator, for songs whose stems are known."""

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.signal

from singsong_jax.audio.io import read_audio
from singsong_jax.audio.separation import transform
from singsong_jax.audio.separation.base import Clip
from singsong_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SimulatedSeparator:
  """What a good separator would give, made from the demo corpus' own stems; for tests of the method.

  The true vocals, slightly smeared by a soft mask, plus the instrumental at −36 … −26 dB: an artefact
  that betrays the answer to a model without input noise, and lies below the paper's σ = 0.01.

  Attributes:
    stems_dir: holds <song>/vocals.wav and <song>/instrumental.wav for every song.
  """

  stems_dir: str | os.PathLike
  name: str = dataclasses.field(default="simulated", init=False)
  batch_clips: int = dataclasses.field(default=1, init=False)
  bleed_db: tuple[float, float] = (-36.0, -26.0)
  bleed_band_hz: tuple[float, float] = (200.0, 6_000.0)
  mask_exponent: tuple[float, float] = (1.0, 2.0)

  def describe(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self), "stems_dir": os.path.abspath(self.stems_dir)}

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """Equal song and offset give equal vocals.

    Raises:
      InputError: a song's stems are missing, or do not have the clip's rate.
    """
    return np.stack([self._separate(clip) for clip in clips])

  def _separate(self, clip: Clip) -> np.ndarray:
    vocals, instrumental = (self._stem(clip, stem) for stem in ("vocals", "instrumental"))
    seed = [zlib.crc32(pathlib.PurePath(clip.song).stem.encode()), round(1000 * clip.offset_seconds)]
    rng = np.random.default_rng(seed)
    smeared = _smear(vocals, instrumental, rng.uniform(*self.mask_exponent))
    bleed_gain = 10 ** (rng.uniform(*self.bleed_db) / 20)
    band = scipy.signal.butter(2, self.bleed_band_hz, "bandpass", fs=clip.sample_rate_hz, output="sos")
    bleed = bleed_gain * scipy.signal.sosfilt(band, instrumental)
    return (smeared + bleed).astype(np.float32)

  def _stem(self, clip: Clip, stem: str) -> np.ndarray:
    """The clip's part of a stem, float32 [samples], zeros past its end."""
    path = pathlib.Path(self.stems_dir) / pathlib.PurePath(clip.song).stem / f"{stem}.wav"
    waveform, sample_rate_hz = read_audio(path)
    if sample_rate_hz != clip.sample_rate_hz:
      raise InputError(f"{path} has {sample_rate_hz} Hz, its song {clip.sample_rate_hz} Hz")
    start = round(clip.offset_seconds * sample_rate_hz)
    part = waveform.mean(axis=0)[start : start + len(clip.mix)]
    return np.pad(part, (0, len(clip.mix) - len(part)))


def _smear(vocals: np.ndarray, instrumental: np.ndarray, exponent: float) -> np.ndarray:
  """The vocals with holes where the instrumental is louder, as a time-frequency mask leaves them."""
  vocals_spectrum = transform.stft(vocals)
  voice, rest = (np.abs(x) ** exponent for x in (vocals_spectrum, transform.stft(instrumental)))
  return transform.istft(vocals_spectrum * (voice / (voice + rest + 1e-9)), len(vocals))
