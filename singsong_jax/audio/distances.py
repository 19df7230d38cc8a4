"""How far a decoded waveform is from its original: SI-SDR, SNR and the log-mel distance of DAC."""

import functools
import math
import warnings
from collections.abc import Iterator

import numpy as np
import scipy.fft

from singsong_jax.errors import InputError

# (window in samples, number of mel bands): MelSpectrogramLoss in descript-audio-codec, conf/final/16khz.yml.
DAC_SCALES = tuple((32 << i, 5 << i) for i in range(7))
_DAC_FLOOR = 1e-5  # its clamp_eps
_BLOCK_SAMPLES = 2**21  # of overlapping windows that are transformed at once


def si_sdr_db(original: np.ndarray, decoded: np.ndarray) -> float:
  """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, "SDR – half-baked or well done?").

      10 log₁₀ (|α s|² / |α s − ŝ|²),   α = ⟨ŝ, s⟩ / |s|²,   both without their means

  Args:
    original, decoded: s and ŝ, float `[samples]`.

  Returns:
    Infinite where `decoded` is `original` at another level; −inf where it has nothing of it.

  Raises:
    InputError: the original is constant, and nothing can be in proportion to it.
  """
  s, decoded = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (original, decoded))
  power = np.dot(s, s)
  if not power:
    raise InputError("SI-SDR is undefined: the original is silent")
  target = np.dot(decoded, s) / power * s
  return _ratio_db(np.dot(target, target), np.sum(np.square(target - decoded)))


def snr_db(original: np.ndarray, decoded: np.ndarray) -> float:
  """Signal-to-noise ratio in dB: 10 log₁₀ (|s|² / |s − ŝ|²) of float `[samples]`; level counts, too."""
  original, decoded = (np.asarray(x, np.float64) for x in (original, decoded))
  return _ratio_db(np.dot(original, original), np.sum(np.square(original - decoded)))


def log_mel_distance(original: np.ndarray, decoded: np.ndarray, sample_rate_hz: int) -> float:
  """Multi-resolution log-mel L1, as DAC at 16 kHz is trained with and reports (Kumar et al. 2023).

      Σ over DAC_SCALES of the mean over bands and frames of |log₁₀ M(s) − log₁₀ M(ŝ)|

  M is the magnitude in mel bands from 0 Hz to half the rate (Slaney's scale and area, librosa's default), at
  least 10⁻⁵, of Hann windows a quarter of their length apart, edges reflected; neither is normalised, so the
  same sound at half the level is at a distance of 7 · log₁₀ 2 = 2.1 unless it meets the floor. A band between
  two bins of a window holds nothing and is left out.

  Args:
    original, decoded: float `[samples]`, full scale ±1. Memory does not grow with their length.
  """
  return sum(
    _distance_at_scale(original, decoded, window, _mel_filters(sample_rate_hz, window, bands))
    for window, bands in DAC_SCALES
  )


def _distance_at_scale(original: np.ndarray, decoded: np.ndarray, window: int, filters: np.ndarray) -> float:
  total, count = 0.0, 0
  for spectra in zip(_magnitudes(original, window), _magnitudes(decoded, window)):
    first, second = (np.log10(np.maximum(spectrum @ filters, _DAC_FLOOR)) for spectrum in spectra)
    total += np.sum(np.abs(first - second), dtype=np.float64)
    count += first.size
  return float(total / count)


def _magnitudes(waveform: np.ndarray, window: int) -> Iterator[np.ndarray]:
  """Of all frames, some at a time: float32 `[n, window / 2 + 1]`; 1 + samples // hop frames in all."""
  padded = np.pad(np.asarray(waveform, np.float32), window // 2, mode="reflect")
  frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
  hann = np.hanning(window + 1)[:-1].astype(np.float32)
  block = _BLOCK_SAMPLES // window
  for start in range(0, len(frames), block):
    yield np.abs(scipy.fft.rfft(frames[start : start + block] * hann))


@functools.cache
def _mel_filters(sample_rate_hz: int, window: int, bands: int) -> np.ndarray:
  """float32 `[window / 2 + 1, bands]`, without those that hold nothing."""
  import librosa  # slow to import

  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Empty filters")
    filters = librosa.filters.mel(sr=sample_rate_hz, n_fft=window, n_mels=bands)
  return np.ascontiguousarray(filters[filters.any(axis=1)].T)


def _ratio_db(signal: float, distortion: float) -> float:
  if not signal:
    return -math.inf
  with np.errstate(divide="ignore"):
    return float(10 * (np.log10(signal) - np.log10(distortion)))
