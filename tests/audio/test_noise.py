import numpy as np
import pytest

from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.noise import add_noise


def test_level_is_sigma():
  silence = np.zeros((2, 100_000), np.float32)
  noise = add_noise(silence, 0.01, seed=3)
  assert noise.dtype == np.float32 and noise.shape == silence.shape
  assert noise.std() == pytest.approx(0.01, rel=0.01) and abs(noise.mean()) < 1e-4
  assert peak_rms_db(noise[0], 16_000, window_seconds=6.25) == pytest.approx(-40, abs=0.1)
  assert abs(np.corrcoef(noise)[0, 1]) < 0.02


def test_seeds_decide():
  ones = np.ones(100, np.float32)
  np.testing.assert_array_equal(add_noise(ones, 0.1, [1, 2]), add_noise(ones, 0.1, [1, 2]))
  assert (add_noise(ones, 0.1, [1, 2]) != add_noise(ones, 0.1, [1, 3])).all()


def test_sigma_zero_changes_nothing():
  ones = np.ones(100, np.float32)
  assert add_noise(ones, 0.0, 1) is ones
