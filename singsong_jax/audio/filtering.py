"""Which separated clips are fit to learn from (SingSong §4.2)."""

import dataclasses

import numpy as np

from singsong_jax.audio.levels import peak_rms_db


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterSettings:
  """A clip stays if its instrumental is audible and its vocal is not far louder than that.

  Attributes:
    min_instrumental_db: least peak RMS of the instrumental, dB re full scale.
    max_vocal_excess_db: the vocal's peak RMS must be less than this above the instrumental's, dB.
  """

  min_instrumental_db: float = -25.0
  max_vocal_excess_db: float = 5.0


def rejection_reason(
  vocals: np.ndarray, instrumental: np.ndarray, sample_rate_hz: int, settings: FilterSettings
) -> str | None:
  """Why this clip is to be left out, or None to keep it.

  Args:
    vocals, instrumental: mono, float [samples], as separated (before resampling).

  Returns:
    'instrumental_silent', 'vocals_too_loud' or None. A clip without vocals is kept, as in the paper.
  """
  instrumental_db = peak_rms_db(instrumental, sample_rate_hz)
  if instrumental_db < settings.min_instrumental_db:
    return "instrumental_silent"
  if peak_rms_db(vocals, sample_rate_hz) - instrumental_db >= settings.max_vocal_excess_db:
    return "vocals_too_loud"
  return None
