"""Frame arithmetic and windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.tokens.windows import Geometry, cut_window, window_starts


def test_ten_seconds_are_250_semantic_and_500_acoustic_frames():
  geometry = Geometry()
  assert geometry.window_samples == 160_000
  assert geometry.semantic_frames == 250
  assert geometry.acoustic_frames == 500


def test_rates_that_do_not_divide_the_window_are_refused():
  with pytest.raises(ValueError, match=r"acoustic_rate_hz=86\.13"):
    Geometry(acoustic_rate_hz=86.13)


@pytest.mark.parametrize(
  ("seconds", "hop_seconds", "expected"),
  [(1, 10, [0]), (10, 10, [0]), (10.5, 10, [0, 10]), (30, 10, [0, 10, 20]), (30, 5, [0, 5, 10, 15, 20])],
)
def test_window_starts(seconds, hop_seconds, expected):
  assert window_starts(int(seconds * 100), 1000, hop_seconds * 100) == [100 * s for s in expected]


@given(st.integers(1, 5000), st.integers(1, 300), st.data())
def test_windows_cover_every_sample_and_none_is_idle(num_samples, window, data):
  hop = data.draw(st.integers(1, window))
  starts = window_starts(num_samples, window, hop)
  assert starts[-1] + window >= num_samples
  assert len(starts) == 1 or starts[-2] + window < num_samples


def test_the_last_window_is_padded_with_zeros():
  np.testing.assert_array_equal(cut_window(np.arange(1, 6), 3, 4), [4, 5, 0, 0])
  assert cut_window(np.ones((2, 5)), 4, 3).shape == (2, 3)


def test_a_hop_beyond_the_window_would_skip_audio():
  with pytest.raises(ValueError, match="hop 11 must be in 1 … 10"):
    window_starts(100, 10, 11)
