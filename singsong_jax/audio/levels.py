"""Loudness as SingSong's filter measures it."""

import numpy as np


def peak_rms_db(
  waveform: np.ndarray, sample_rate_hz: int, window_seconds: float = 0.05, hop_seconds: float = 0.025
) -> float:
  """Largest RMS of any short window, in dB relative to an RMS of 1 (SingSong §4.2, "peak RMS amplitude").

  This is SoX's "RMS Pk dB" and ffmpeg's "RMS peak dB". A last window ends at the last sample, so
  nothing is left out; a signal shorter than a window is one window.

  Args:
    waveform: float [samples], full scale ±1.

  Returns:
    −inf for silence; a full-scale sine gives −3.01.
  """
  num_samples = len(waveform)
  window = min(round(window_seconds * sample_rate_hz), num_samples)
  hop = max(1, round(hop_seconds * sample_rate_hz))
  starts = np.append(np.arange(0, num_samples - window, hop), num_samples - window)  # [windows]
  energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])  # [samples + 1]
  largest = max(0.0, np.max(energy[starts + window] - energy[starts]))
  with np.errstate(divide="ignore"):
    return float(10 * np.log10(largest / window))
