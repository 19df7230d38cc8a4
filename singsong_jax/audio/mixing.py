"""Adding an instrumental to a vocal."""

import numpy as np

PEAK_LIMIT = 0.999  # full scale = 1


def mix(
  vocals: np.ndarray, instrumental: np.ndarray, peak_limit: float = PEAK_LIMIT
) -> tuple[np.ndarray, float]:
  """Sums both at their own levels; if the sum would pass `peak_limit`, scales the whole, never clips.

  Args:
    vocals: float [channels, samples].
    instrumental: float [samples] (added to every channel) or [channels, samples].

  Returns:
    The mix, float [channels, samples], and the gain applied to it, in (0, 1].
  """
  if vocals.shape[-1] != instrumental.shape[-1]:
    raise ValueError(f"vocals have {vocals.shape[-1]} samples, the instrumental {instrumental.shape[-1]}")
  return limit_peak(vocals + instrumental, peak_limit)


def limit_peak(waveform: np.ndarray, peak_limit: float = PEAK_LIMIT) -> tuple[np.ndarray, float]:
  """Scales a whole waveform so that its peak is within `peak_limit`; returns it and the gain, in (0, 1]."""
  peak = float(np.abs(waveform).max(initial=0.0))
  gain = min(1.0, peak_limit / peak) if peak else 1.0
  return waveform * np.float32(gain), gain
