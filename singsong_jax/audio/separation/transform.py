"""The short-time Fourier transform of the classical separators."""

import numpy as np
import scipy.signal

FRAME_SAMPLES, HOP_SAMPLES = 2048, 1024


def stft(waveform: np.ndarray, min_samples: int = FRAME_SAMPLES) -> np.ndarray:
  """float32 [samples], zero-padded to at least `min_samples` → complex [bins, frames]."""
  return _TRANSFORM.stft(np.pad(waveform, (0, max(0, min_samples - len(waveform)))))


def istft(spectrum: np.ndarray, num_samples: int) -> np.ndarray:
  return _TRANSFORM.istft(spectrum)[:num_samples].astype(np.float32)


_TRANSFORM = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", FRAME_SAMPLES), HOP_SAMPLES, fs=1)
