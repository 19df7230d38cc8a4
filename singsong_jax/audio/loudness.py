"""Loudness and true peak as ITU-R BS.1770-4 measures them, of waveforms too long for memory."""

from collections.abc import Iterable

import numpy as np
import scipy.signal
from pyloudnorm import IIRfilter

from singsong_jax.audio.resampling import resample_blocks
from singsong_jax.audio.tracks import reblock

SILENCE_LUFS = -70.0  # the absolute gate: a measurement has no blocks below it
_OVERSAMPLING = 4


def true_peak(blocks: Iterable[np.ndarray]) -> float:
  """Largest magnitude between the samples as well, by 4-fold oversampling (BS.1770-4, annex 2).

  Args:
    blocks: float `[channels, n]`, full scale ±1, together the waveform.

  Returns:
    Full scale = 1; 0 for silence.
  """
  upsampled = resample_blocks(blocks, 1, _OVERSAMPLING)
  return max((float(np.abs(block).max(initial=0.0)) for block in upsampled), default=0.0)


def integrated_loudness(blocks: Iterable[np.ndarray], sample_rate_hz: int) -> float | None:
  """Gated loudness in LUFS (BS.1770-4, annex 1) of a mono or stereo waveform.

  A mono waveform counts as one loudspeaker's: as stereo, twice the same, it would read 3 LU more.

  Args:
    blocks: float `[channels, n]`, full scale ±1, together the waveform.

  Returns:
    None where no 400 ms reach −70 LUFS.
  """
  steps = np.concatenate([np.zeros(0), *_step_powers(blocks, sample_rate_hz)])
  if len(steps) < 4:
    return None
  powers = np.lib.stride_tricks.sliding_window_view(steps, 4).mean(axis=-1)  # of 400 ms, every 100 ms
  gated = powers[_lufs(powers) >= SILENCE_LUFS]
  if not len(gated):
    return None
  return float(_lufs(powers[_lufs(powers) > max(SILENCE_LUFS, _lufs(gated.mean()) - 10)].mean()))


def _step_powers(blocks: Iterable[np.ndarray], sample_rate_hz: int):
  """Mean squares of the K-weighted waveform, summed over channels, of each whole 100 ms: yields `[steps]`."""
  step = round(0.1 * sample_rate_hz)
  # pyloudnorm's Meter wants the whole waveform at once; its filters can be run block by block.
  filters = [
    IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, sample_rate_hz, "high_shelf"),
    IIRfilter(0.0, 0.5, 38.0, sample_rate_hz, "high_pass"),
  ]
  states = [None] * len(filters)
  for block in reblock(blocks, 100 * step):
    weighted = block
    for i, stage in enumerate(filters):
      state = np.zeros((len(block), 2)) if states[i] is None else states[i]
      weighted, states[i] = scipy.signal.lfilter(stage.b, stage.a, weighted, zi=state)
    whole = weighted[:, : weighted.shape[-1] // step * step]
    yield np.square(whole).reshape(len(block), -1, step).mean(axis=-1).sum(axis=0)


def _lufs(power: np.ndarray) -> np.ndarray:
  with np.errstate(divide="ignore"):
    return -0.691 + 10 * np.log10(power)
