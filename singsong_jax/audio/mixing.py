"""Adding an instrumental to a vocal, at levels that cannot clip."""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np

from singsong_jax.audio.loudness import integrated_loudness, true_peak
from singsong_jax.audio.tracks import Track

MAX_TRUE_PEAK_DB = -1.0  # dB true peak re full scale: what EBU R 128 asks for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
  """Gains, and what was measured with them applied; None stands for silence.

  Attributes:
    instrumental_gain: of the instrumental, in its own file and in the mix.
    mix_gain: of vocals + instrumental as a whole, in (0, 1].
    instrumental_lufs: integrated loudness.
    instrumental_true_peak_db, mix_true_peak_db: re full scale, at most `MAX_TRUE_PEAK_DB`.
  """

  instrumental_gain: float
  mix_gain: float
  instrumental_lufs: float | None
  instrumental_true_peak_db: float | None
  mix_true_peak_db: float | None


def measure_levels(vocals: Track, instrumental: Track, loudness_lufs: float | None = None) -> Levels:
  """Finds the gains of `scaled_instrumental` and `mix`.

  Both are scaled down where their true peak would pass `MAX_TRUE_PEAK_DB`, never clipped or compressed.

  Args:
    vocals: mono or stereo.
    instrumental: mono, of the same rate and length.
    loudness_lufs: what the instrumental is brought to, as far as its true peak allows; None leaves it as
      it is. A silent one stays silent.
  """
  loudness = integrated_loudness(instrumental.blocks(), instrumental.sample_rate_hz)
  peak = true_peak(instrumental.blocks())
  gain = min(1.0, _safe_gain(peak))
  if loudness is not None and loudness_lufs is not None:
    gain = min(10 ** ((loudness_lufs - loudness) / 20), _safe_gain(peak))
  mix_peak = true_peak(_sum(vocals, instrumental, gain, 1.0))
  mix_gain = min(1.0, _safe_gain(mix_peak))
  return Levels(
    instrumental_gain=gain,
    mix_gain=mix_gain,
    instrumental_lufs=None if loudness is None else loudness + 20 * math.log10(gain),
    instrumental_true_peak_db=_db(gain * peak),
    mix_true_peak_db=_db(mix_gain * mix_peak),
  )


def scaled_instrumental(instrumental: Track, levels: Levels) -> Iterator[np.ndarray]:
  """Blocks float32 `[1, n]`."""
  return (np.float32(levels.instrumental_gain) * block for block in instrumental.blocks())


def mix(vocals: Track, instrumental: Track, levels: Levels) -> Iterator[np.ndarray]:
  """(vocals + scaled instrumental) · mix gain: blocks float32 `[channels, n]`, as the vocals' are."""
  return _sum(vocals, instrumental, levels.instrumental_gain, levels.mix_gain)


def _sum(vocals: Track, instrumental: Track, gain: float, mix_gain: float) -> Iterator[np.ndarray]:
  pairs: Iterable = zip(vocals.blocks(), instrumental.blocks(), strict=True)
  return (np.float32(mix_gain) * (voice + np.float32(gain) * rest) for voice, rest in pairs)


def _safe_gain(peak: float) -> float:
  """The largest gain with which `peak` keeps within `MAX_TRUE_PEAK_DB`; infinite for silence."""
  return 10 ** (MAX_TRUE_PEAK_DB / 20) / peak if peak else math.inf


def _db(peak: float) -> float | None:
  return 20 * math.log10(peak) if peak else None
