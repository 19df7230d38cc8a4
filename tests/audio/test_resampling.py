import numpy as np
import pytest

from singsong_jax.audio.resampling import resample, resample_blocks


def noise(num_samples, channels=1, seed=0):
  return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, num_samples)).astype(np.float32)


@pytest.mark.parametrize("num_samples, from_hz, to_hz, expected", [
  (441_000, 44_100, 16_000, 160_000),
  (441_001, 44_100, 16_000, 160_001),
  (1, 48_000, 16_000, 1),
  (100, 16_000, 44_100, 276),
  (100, 16_000, 16_000, 100),
])  # fmt: skip
def test_resampled_length(num_samples, from_hz, to_hz, expected):
  waveform = noise(num_samples, channels=2)
  resampled = resample(waveform, from_hz, to_hz)
  assert resampled.shape == (2, expected) and resampled.dtype == np.float32


def test_resampling_keeps_a_sine_and_drops_what_the_rate_cannot_carry():
  t = np.arange(44_100) / 44_100
  kept = resample(np.sin(2 * np.pi * 1_000 * t), 44_100, 16_000)
  expected = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
  np.testing.assert_allclose(kept[500:-500], expected[500:-500], atol=2e-3)
  gone = resample(np.sin(2 * np.pi * 12_000 * t), 44_100, 16_000)
  assert np.abs(gone[500:-500]).max() < 2e-3


def test_stems_still_sum_to_the_mix_after_resampling():
  vocals, instrumental = noise(4_410, seed=1) / 2, noise(4_410, seed=2) / 2
  parts = resample(vocals, 44_100, 16_000) + resample(instrumental, 44_100, 16_000)
  np.testing.assert_allclose(parts, resample(vocals + instrumental, 44_100, 16_000), atol=1e-6)


@pytest.mark.parametrize("from_hz, to_hz", [(44_100, 16_000), (16_000, 44_100), (1, 4), (16_000, 16_000)])
@pytest.mark.parametrize("block_samples", [1, 700, 4_096, 100_000])
def test_blocks_are_the_whole_to_the_last_bit(from_hz, to_hz, block_samples):
  waveform = noise(9_999 if block_samples > 1 else 99, channels=2)
  blocks = (waveform[:, i : i + block_samples] for i in range(0, waveform.shape[1], block_samples))
  joined = np.concatenate(list(resample_blocks(blocks, from_hz, to_hz)), axis=-1)
  np.testing.assert_array_equal(joined, resample(waveform, from_hz, to_hz))


def test_rates_without_a_common_divisor():
  waveform = noise(100_000)
  blocks = (waveform[:, i : i + 30_000] for i in range(0, 100_000, 30_000))
  joined = np.concatenate(list(resample_blocks(blocks, 44_099, 16_000)), axis=-1)
  np.testing.assert_array_equal(joined, resample(waveform, 44_099, 16_000))


def test_blocks_are_handed_on_as_they_come():
  given = 0

  def blocks():
    nonlocal given
    for _ in range(100):
      given += 1
      yield np.zeros((1, 4_410), np.float32)

  next(resample_blocks(blocks(), 44_100, 16_000))
  assert given <= 2


def test_nothing_gives_nothing():
  assert list(resample_blocks([], 44_100, 16_000)) == []
