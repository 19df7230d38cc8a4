import math

import numpy as np
import pytest

from singsong_jax.audio.filtering import RULES, FilterSettings, rejection_reason
from singsong_jax.errors import InputError

DEFAULTS = FilterSettings()


def level(db):
  """A signal whose peak RMS is `db`."""
  return np.full(10_000, 10 ** (db / 20))


@pytest.mark.parametrize("vocals_db, instrumental_db, expected", [
  (-20, -24.99, None),  # 4.99 dB louder
  (-19.9, -24.99, "vocals_too_loud"),
  (-20, -25.01, "instrumental_silent"),
  (0, -25.01, "instrumental_silent"),
  (-1, -5.9, None),
  (-1, -6.0001, "vocals_too_loud"),
  (-300, -10, None),  # No vocals at all is no reason.
])  # fmt: skip
def test_the_papers_limits(vocals_db, instrumental_db, expected):
  assert rejection_reason(level(vocals_db), level(instrumental_db), 44_100, DEFAULTS) == expected


def test_silence_everywhere():
  assert rejection_reason(np.zeros(100), np.zeros(100), 44_100, DEFAULTS) == "instrumental_silent"
  assert rejection_reason(np.zeros(100), level(-20), 44_100, DEFAULTS) is None


def test_settings_count():
  settings = FilterSettings(min_instrumental_db=-40, max_vocal_excess_db=20)
  assert rejection_reason(level(-20), level(-39), 44_100, settings) is None


def test_nofilt_keeps_everything():
  nothing = FilterSettings(rule="none")
  assert rejection_reason(level(0), np.zeros(100), 44_100, nothing) is None


@pytest.mark.parametrize(("vocals_rms", "instrumental_rms", "expected"), [
  (0.0821, 0.0821, None),  # e^−2.5 = 0.082085: 10 ln 0.0821 = −24.998
  (0.0820, 0.0821, "vocals_silent"),  # 10 ln 0.0820 = −25.010
  (0.0821, 0.0820, "instrumental_silent"),
  (0.9, 0.09, None),  # far louder vocals are fine
  (0.0, 0.5, "vocals_silent"),
])  # fmt: skip
def test_fastsags_decibels_are_natural_and_of_the_whole_clip(vocals_rms, instrumental_rms, expected):
  vocals, instrumental = (np.full(44_100, rms) for rms in (vocals_rms, instrumental_rms))
  assert rejection_reason(vocals, instrumental, 44_100, FilterSettings(rule="fastsag")) == expected


def test_fastsag_hears_no_peaks():
  """Half a second of 1 in 10 s: peak RMS 0 dB, whole-clip RMS √0.05 = 0.22; a tenth of a second: 0.1; 50 ms:
  0.07.
  """
  for seconds, expected in [(0.5, None), (0.1, None), (0.05, "vocals_silent")]:
    vocals = np.zeros(441_000)
    vocals[: round(seconds * 44_100)] = 1
    assert rejection_reason(vocals, level(-10), 44_100, FilterSettings(rule="fastsag")) == expected


@pytest.mark.parametrize(
  ("vocals_db", "expected"), [(-24.99, None), (-25.01, "vocals_silent"), (-300, "vocals_silent")]
)
def test_musdb_clips_need_vocals_alone(vocals_db, expected):
  settings = FilterSettings(rule="musdb")
  assert rejection_reason(level(vocals_db), np.zeros(100), 44_100, settings) == expected


def test_exactly_at_the_limits():
  """Filtered out are instrumentals *below* −25 dB and vocals *at least* 5 dB louder (§4.2)."""
  settings = FilterSettings(min_instrumental_db=10 * math.log10(0.25))  # of a constant 0.5
  assert rejection_reason(np.full(9, 0.5), np.full(9, 0.5), 44_100, settings) is None
  settings = FilterSettings(max_vocal_excess_db=10 * math.log10(4))  # 1 against 0.5
  assert rejection_reason(np.full(9, 1.0), np.full(9, 0.5), 44_100, settings) == "vocals_too_loud"


def test_unknown_rules():
  assert list(RULES) == ["singsong", "none", "fastsag", "musdb"]
  with pytest.raises(InputError, match="--filter=nofilt: it may be singsong, none, fastsag, musdb"):
    FilterSettings(rule="nofilt")
