"""Which separated clips are fit to learn from. Every rule is a pure function of the two stems."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.errors import InputError, did_you_mean

# FastSAG's code takes 10 ln(RMS) for decibels, so its −25 are −21.7 dB.
FASTSAG_MIN_LEVEL = -25.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterSettings:
  """Which rule, and its limits.

  Attributes:
    rule: 'singsong', 'none', 'fastsag' or 'musdb'.
    min_instrumental_db: least peak RMS of the instrumental, dB re full scale; of 'singsong'.
    max_vocal_excess_db: the vocals' peak RMS must be less than this above the instrumental's, dB; of
    'singsong'. min_vocals_db: the vocals' peak RMS must be above this, dB re full scale; of 'musdb'.
  """

  rule: str = "singsong"
  min_instrumental_db: float = -25.0
  max_vocal_excess_db: float = 5.0
  min_vocals_db: float = -25.0

  def __post_init__(self):
    if self.rule not in RULES:
      raise InputError(f"--filter={self.rule}: it may be {', '.join(RULES)}{did_you_mean(self.rule, RULES)}")


def rejection_reason(
  vocals: np.ndarray, instrumental: np.ndarray, sample_rate_hz: int, settings: FilterSettings
) -> str | None:
  """Why this clip is to be left out, or None to keep it.

  Args:
    vocals, instrumental: mono, float [samples], before resampling.

  Returns:
    'instrumental_silent', 'vocals_too_loud', 'vocals_silent' or None.
  """
  return RULES[settings.rule](vocals, instrumental, sample_rate_hz, settings)


def _singsong(vocals, instrumental, sample_rate_hz: int, settings: FilterSettings) -> str | None:
  """SingSong §4.2: an audible instrumental, and vocals not far louder. A clip without vocals is kept, as
  there.
  """
  instrumental_db = peak_rms_db(instrumental, sample_rate_hz)
  if instrumental_db < settings.min_instrumental_db:
    return "instrumental_silent"
  if peak_rms_db(vocals, sample_rate_hz) - instrumental_db >= settings.max_vocal_excess_db:
    return "vocals_too_loud"
  return None


def _none(*_) -> None:
  """The paper's NoFilt."""


def _fastsag(vocals, instrumental, sample_rate_hz: int, settings: FilterSettings) -> str | None:
  """FastSAG, as its code has it: both stems, whole-clip RMS, and the natural logarithm."""
  for name, stem in (("instrumental", instrumental), ("vocals", vocals)):
    if _natural_level(stem) < FASTSAG_MIN_LEVEL:
      return f"{name}_silent"
  return None


def _musdb(vocals, instrumental, sample_rate_hz: int, settings: FilterSettings) -> str | None:
  """SingSong §4.1, of the evaluation clips: vocals are present."""
  return None if peak_rms_db(vocals, sample_rate_hz) > settings.min_vocals_db else "vocals_silent"


def _natural_level(waveform: np.ndarray) -> float:
  rms = math.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
  return 10 * math.log(rms) if rms else -math.inf


RULES: dict[str, Callable[..., str | None]] = {
  "singsong": _singsong,
  "none": _none,
  "fastsag": _fastsag,
  "musdb": _musdb,
}
