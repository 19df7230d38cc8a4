import numpy as np
import pytest

from singsong_jax.audio.filtering import FilterSettings, rejection_reason

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
