"""The noise that hides a separator's traces from the model."""

from collections.abc import Sequence

import numpy as np


def add_noise(waveform: np.ndarray, sigma: float, seed: int | Sequence[int]) -> np.ndarray:
  """Adds white noise from N(0, σ²) to a float32 waveform of full scale ±1 (SingSong §3.4).

  The paper's σ = 0.01 is −40 dB. Equal seeds give equal noise; σ = 0 gives back the input itself.
  """
  if sigma == 0:
    return waveform
  noise = np.random.default_rng(seed).standard_normal(waveform.shape, dtype=np.float32)
  return waveform + np.float32(sigma) * noise
