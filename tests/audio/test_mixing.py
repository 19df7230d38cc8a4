import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from singsong_jax.audio.loudness import integrated_loudness
from singsong_jax.audio.mixing import MAX_TRUE_PEAK_DB, measure_levels, mix, scaled_instrumental
from singsong_jax.audio.tracks import ArrayTrack

LIMIT = 10 ** (MAX_TRUE_PEAK_DB / 20)
RATE_HZ = 16_000


def track(waveform):
  return ArrayTrack(np.atleast_2d(np.asarray(waveform, np.float32)), RATE_HZ, "test")


def joined(blocks):
  return np.concatenate(list(blocks), axis=-1)


def oversampled_peak(waveform):
  """By Fourier interpolation to 16 times the rate."""
  return np.abs(scipy.signal.resample(waveform, 16 * waveform.shape[-1], axis=-1)).max()


def noise(seconds=3, level=0.1, seed=0):
  samples = np.random.default_rng(seed).standard_normal((1, round(seconds * RATE_HZ)))
  return track(level * samples * np.hanning(samples.shape[1]))


def test_quiet_sums_stay_as_they_are():
  vocals, instrumental = track([[0.1, 0.2], [0.3, -0.4]]), track([0.2, -0.3])
  levels = measure_levels(vocals, instrumental)
  assert levels.mix_gain == levels.instrumental_gain == 1
  np.testing.assert_allclose(joined(mix(vocals, instrumental, levels)), [[0.3, -0.1], [0.5, -0.7]], rtol=1e-6)
  np.testing.assert_array_equal(joined(scaled_instrumental(instrumental, levels)), instrumental.waveform)


@settings(deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20), st.integers(1, 2))
def test_never_clips_and_keeps_the_shape(samples, channels):
  vocals, instrumental = track([samples] * channels), track(samples[::-1])
  levels = measure_levels(vocals, instrumental)
  total, rest = joined(mix(vocals, instrumental, levels)), joined(scaled_instrumental(instrumental, levels))
  assert 0 < levels.mix_gain <= 1 and 0 < levels.instrumental_gain <= 1
  assert max(np.abs(total).max(), np.abs(rest).max()) <= LIMIT + 2e-3
  np.testing.assert_allclose(total / levels.mix_gain, vocals.waveform + rest, rtol=1e-5, atol=1e-6)


def test_peaks_between_the_samples_count():
  """A sine at a quarter of the rate, sampled at ±0.707 of its amplitude, 1.3."""
  sine = 1.3 * np.sin(np.pi / 2 * np.arange(8_000) + np.pi / 4) * np.hanning(8_000)
  assert np.abs(sine).max() < 0.93
  instrumental, vocals = track(sine), track(0.5 * sine)
  levels = measure_levels(vocals, instrumental)
  assert levels.instrumental_gain == pytest.approx(LIMIT / 1.3, rel=0.02)
  for waveform in (
    joined(scaled_instrumental(instrumental, levels)),
    joined(mix(vocals, instrumental, levels)),
  ):
    assert oversampled_peak(waveform) <= LIMIT * 1.02
  assert levels.mix_true_peak_db == pytest.approx(MAX_TRUE_PEAK_DB)
  assert levels.instrumental_true_peak_db == pytest.approx(MAX_TRUE_PEAK_DB)


@pytest.mark.parametrize("wanted", [-30.0, -23.0])
def test_loudness_is_brought_to_the_target(wanted):
  instrumental = noise()
  levels = measure_levels(noise(seed=1), instrumental, wanted)
  found = integrated_loudness(scaled_instrumental(instrumental, levels), RATE_HZ)
  assert found == pytest.approx(wanted, abs=0.05)
  assert levels.instrumental_lufs == pytest.approx(found, abs=0.01)
  assert levels.instrumental_gain != 1


def test_a_target_that_the_peaks_do_not_allow_is_approached():
  levels = measure_levels(noise(seed=1), noise(), -1.0)
  assert levels.instrumental_true_peak_db == pytest.approx(MAX_TRUE_PEAK_DB)
  assert levels.instrumental_lufs < -1


@pytest.mark.parametrize("wanted", [None, -16.0])
def test_silence_is_silence(wanted):
  levels = measure_levels(track(np.zeros(8_000)), track(np.zeros(8_000)), wanted)
  assert levels.mix_gain == levels.instrumental_gain == 1
  assert levels.instrumental_lufs is levels.mix_true_peak_db is levels.instrumental_true_peak_db is None


def test_different_lengths_are_refused():
  with pytest.raises(ValueError):
    measure_levels(track(np.ones(3)), track(np.ones(4)))
