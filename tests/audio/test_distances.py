"""Distances between waveforms: by hand, against librosa, and what must hold for any sound."""

import math

import librosa
import numpy as np
import pytest

from singsong_jax.audio import distances
from singsong_jax.audio.distances import log_mel_distance, si_sdr_db, snr_db
from singsong_jax.errors import InputError

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def sound():
  """Notes over noise, not at the floor anywhere: float32 `[samples]`."""
  times = np.arange(RATE_HZ) / RATE_HZ
  notes = np.sin(2 * np.pi * 300 * times) + 0.3 * np.sin(2 * np.pi * 2000 * times)
  return (0.2 * notes + 0.05 * np.random.default_rng(0).standard_normal(RATE_HZ)).astype(np.float32)


def test_by_hand():
  original = np.array([1.0, -1, 1, -1])
  decoded = 2 * original + [1, 1, -1, -1]  # what is added is orthogonal: 16 of target, 4 of the rest
  assert si_sdr_db(original, decoded) == pytest.approx(10 * math.log10(16 / 4))
  assert snr_db(original, decoded) == pytest.approx(10 * math.log10(4 / 8))  # error [2, 0, 0, −2]


def test_identity_and_nothing(sound):
  assert si_sdr_db(sound, sound) == snr_db(sound, sound) == math.inf
  assert si_sdr_db(sound, 0 * sound) == -math.inf
  assert log_mel_distance(sound, sound, RATE_HZ) == 0


def test_si_sdr_knows_neither_level_nor_offset(sound):
  noisy = sound + 0.01 * np.random.default_rng(1).standard_normal(RATE_HZ)
  assert si_sdr_db(0.3 * sound + 0.1, -2 * noisy - 0.5) == pytest.approx(si_sdr_db(sound, noisy), abs=1e-4)


@pytest.mark.parametrize("original", [np.zeros(100), np.full(100, 0.5)])
def test_si_sdr_of_silence_is_refused(original):
  with pytest.raises(InputError, match="undefined"):
    si_sdr_db(original, np.ones(100))


def test_half_the_level_is_7_times_log_2(sound):
  assert log_mel_distance(sound, sound / 2, RATE_HZ) == pytest.approx(7 * math.log10(2), abs=1e-4)


def test_more_noise_is_farther(sound):
  noise = np.random.default_rng(2).standard_normal(RATE_HZ).astype(np.float32)
  noisy = [sound + level * noise for level in (0.001, 0.01, 0.1)]
  for distance in (lambda x: log_mel_distance(sound, x, RATE_HZ), lambda x: -si_sdr_db(sound, x)):
    assert distance(noisy[0]) < distance(noisy[1]) < distance(noisy[2])


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_log_mel_distance_is_dacs(sound, rate_hz):
  """Of librosa's spectrograms, where torch.stft's `center` and audiotools' windows are the same."""
  decoded = sound[::-1].copy()
  expected = 0.0
  for window, bands in zip((32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320)):
    filters = librosa.filters.mel(sr=rate_hz, n_fft=window, n_mels=bands)
    filters = filters[filters.any(axis=1)]
    first, second = (
      np.log10(np.maximum(filters @ np.abs(librosa.stft(x, n_fft=window, pad_mode="reflect")), 1e-5))
      for x in (sound, decoded)
    )
    expected += np.abs(first - second).mean()
  assert log_mel_distance(sound, decoded, rate_hz) == pytest.approx(expected, rel=1e-4)


def test_bands_are_librosas_without_the_empty_ones():
  filters = distances._mel_filters(16_000, 2048, 320)
  np.testing.assert_array_equal(filters, librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=320).T)
  assert distances._mel_filters(48_000, 32, 5).shape == (17, 4)  # one lies between 0 and 1500 Hz
  assert distances._mel_filters(48_000, 32, 5).any(axis=0).all()


def test_blocks_make_no_difference(sound, monkeypatch):
  decoded = sound + 0.01
  whole = log_mel_distance(sound, decoded, RATE_HZ)
  monkeypatch.setattr(distances, "_BLOCK_SAMPLES", 5_000)
  assert log_mel_distance(sound, decoded, RATE_HZ) == pytest.approx(whole, rel=1e-6)
