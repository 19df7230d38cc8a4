import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.audio.levels import peak_rms_db

RATE_HZ = 44_100


def test_a_full_scale_sine_is_minus_3_db():
  sine = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
  assert peak_rms_db(sine, RATE_HZ) == pytest.approx(-3.01, abs=0.02)


def test_silence_is_minus_infinity():
  assert peak_rms_db(np.zeros(RATE_HZ), RATE_HZ) == -np.inf


def test_windows_by_hand():
  # 10 Hz, windows of 2 samples, hop 1: RMS² of the windows is 0, .5, 2.5, 2.
  level_db = peak_rms_db(np.array([0, 0, 1, 2, 0.0]), 10, window_seconds=0.2, hop_seconds=0.1)
  assert level_db == pytest.approx(10 * np.log10(2.5))


@pytest.mark.parametrize("num_samples", [2_300, 2_205, 1_000, 1])
def test_the_end_counts_and_a_short_signal_is_one_window(num_samples):
  waveform = np.zeros(num_samples)
  waveform[-1] = 0.5
  expected = 10 * np.log10(0.25 / min(num_samples, 2_205))
  assert peak_rms_db(waveform, RATE_HZ) == pytest.approx(expected)


@given(st.floats(1e-4, 1), st.integers(0, 5_000), st.integers(2_205, 6_000))
def test_a_burst_of_two_windows_is_found_wherever_it_is(amplitude, before, after):
  waveform = np.concatenate([np.zeros(before), np.full(4_410, amplitude), np.zeros(after)])
  assert peak_rms_db(waveform, RATE_HZ) == pytest.approx(20 * np.log10(amplitude), abs=1e-6)
