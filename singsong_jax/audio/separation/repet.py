"""Taking the singing voice out of a mix. The instrumental is the caller's mix − vocals (SingSong §4.1).

A neural separator is one more class here with a `name` and `separate`, and a line in `get_separator`.
"""

import dataclasses
import math
import os
import pathlib
import zlib
from typing import Protocol

import numpy as np
import scipy.signal

from singsong_jax.audio.io import read_audio
from singsong_jax.errors import InputError

_FRAME_SAMPLES, _HOP_SAMPLES = 2048, 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """A piece of a song.

  Attributes:
    mix: float32 [samples], mono, full scale ±1; past the song's end zeros.
    song: the song's path or name, as far as a separator needs to know it.
    offset_seconds: where in the song the clip begins.
  """

  mix: np.ndarray
  sample_rate_hz: int
  song: str
  offset_seconds: float


class SourceSeparator(Protocol):
  """Finds the vocals in a clip: float32 [samples], as long as the mix and at its level."""

  name: str

  def separate(self, clip: Clip) -> np.ndarray: ...


def get_separator(name: str, **settings) -> SourceSeparator:
  """'repet' (no settings needed) or 'simulated' (stems_dir).

  Raises:
    InputError: another name.
  """
  if name not in _SEPARATORS:
    raise InputError(f"separator {name!r} is unknown; known: {', '.join(sorted(_SEPARATORS))}")
  return _SEPARATORS[name](**settings)


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
  min_lag_seconds: float = 2.5
  lowest_voice_hz: float = 150.0

  def separate(self, clip: Clip) -> np.ndarray:
    import librosa  # Slow to import, and what only trains does not have it.

    lag_frames = math.ceil(self.min_lag_seconds * clip.sample_rate_hz / _HOP_SAMPLES)
    # A shorter clip gets silence to compare with: in it nothing repeats.
    spectrum = _stft(clip.mix, min_samples=4 * lag_frames * _HOP_SAMPLES)  # [bins, frames]
    magnitude = np.abs(spectrum)
    repeating = librosa.decompose.nn_filter(magnitude, aggregate=np.median, metric="cosine", width=lag_frames)
    mask = 1 - np.minimum(1, repeating / np.maximum(magnitude, 1e-9))
    hz = np.fft.rfftfreq(_FRAME_SAMPLES, 1 / clip.sample_rate_hz)
    mask[hz < self.lowest_voice_hz] = 0
    return _istft(spectrum * mask, len(clip.mix))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedSeparator:
  """What a good separator would give, made from the demo corpus' own stems; for tests of the method.

  The true vocals, slightly smeared by a soft mask, plus the instrumental at −36 … −26 dB: an artefact
  that betrays the answer to a model without input noise, and lies below the paper's σ = 0.01.

  Attributes:
    stems_dir: holds <song>/vocals.wav and <song>/instrumental.wav for every song.
  """

  stems_dir: str | os.PathLike
  name: str = dataclasses.field(default="simulated", init=False)
  bleed_db: tuple[float, float] = (-36.0, -26.0)
  bleed_band_hz: tuple[float, float] = (200.0, 6_000.0)
  mask_exponent: tuple[float, float] = (1.0, 2.0)

  def separate(self, clip: Clip) -> np.ndarray:
    """Equal song and offset give equal vocals.

    Raises:
      InputError: the song's stems are missing, or do not have the clip's rate.
    """
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
  vocals_spectrum = _stft(vocals)
  voice, rest = (np.abs(x) ** exponent for x in (vocals_spectrum, _stft(instrumental)))
  return _istft(vocals_spectrum * (voice / (voice + rest + 1e-9)), len(vocals))


def _stft(waveform: np.ndarray, min_samples: int = _FRAME_SAMPLES) -> np.ndarray:
  """float32 [samples], zero-padded to at least `min_samples` → complex [bins, frames]."""
  return _TRANSFORM.stft(np.pad(waveform, (0, max(0, min_samples - len(waveform)))))


def _istft(spectrum: np.ndarray, num_samples: int) -> np.ndarray:
  return _TRANSFORM.istft(spectrum)[:num_samples].astype(np.float32)


_TRANSFORM = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", _FRAME_SAMPLES), _HOP_SAMPLES, fs=1)
_SEPARATORS = {"repet": RepetSeparator, "simulated": SimulatedSeparator}
