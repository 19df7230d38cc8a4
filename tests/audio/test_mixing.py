import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.audio.mixing import mix


def test_quiet_sums_stay_as_they_are():
  vocals, instrumental = np.array([[0.1, 0.2], [0.3, -0.4]], np.float32), np.array([0.5, -0.5], np.float32)
  total, gain = mix(vocals, instrumental)
  assert gain == 1 and total.dtype == np.float32
  np.testing.assert_allclose(total, [[0.6, -0.3], [0.8, -0.9]], rtol=1e-6)


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20), st.integers(1, 2))
def test_never_clips_and_keeps_the_shape(samples, channels):
  vocals = np.array([samples] * channels, np.float32)
  instrumental = np.array(samples[::-1], np.float32)
  total, gain = mix(vocals, instrumental)
  assert 0 < gain <= 1 and np.abs(total).max() <= 0.999 + 1e-6
  np.testing.assert_allclose(total / gain, vocals + instrumental, rtol=1e-5, atol=1e-6)


def test_silence_is_silence():
  total, gain = mix(np.zeros((1, 3)), np.zeros(3))
  assert gain == 1 and not total.any()


def test_different_lengths_are_refused():
  with pytest.raises(ValueError, match="3 samples, the instrumental 4"):
    mix(np.zeros((1, 3)), np.zeros(4))
