"""Loudness and true peak, against known signals and against the library's own whole-file meter."""

import numpy as np
import pyloudnorm
import pytest

from singsong_jax.audio.loudness import integrated_loudness, true_peak


def in_blocks(waveform, size=5_000):
  return (waveform[:, i : i + size] for i in range(0, waveform.shape[1], size))


def music(rate_hz, seconds=6, channels=2):
  """Noise bursts of changing level over a tone, with a silent second that the gate leaves out."""
  rng = np.random.default_rng(0)
  times = np.arange(seconds * rate_hz) / rate_hz
  level = 0.05 * (1 + np.floor(times) % 3) * (np.floor(times) != 2)
  waveform = level * (rng.standard_normal((channels, len(times))) + np.sin(2 * np.pi * 440 * times))
  return waveform.astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_in_blocks_is_pyloudnorms_of_the_whole(rate_hz, channels):
  waveform = music(rate_hz, channels=channels)
  expected = pyloudnorm.Meter(rate_hz).integrated_loudness(waveform.T.astype(float))
  assert integrated_loudness(in_blocks(waveform), rate_hz) == pytest.approx(expected, abs=0.01)


def test_the_standards_reference_tone():
  """A 997 Hz sine at full scale in one channel reads −3.01 LUFS (BS.1770-4)."""
  sine = np.sin(2 * np.pi * 997 * np.arange(48_000 * 5) / 48_000)[None]
  assert integrated_loudness(in_blocks(sine), 48_000) == pytest.approx(-3.01, abs=0.1)


@pytest.mark.parametrize("samples", [0, 3_000, 48_000])
def test_silence_has_no_loudness_and_no_peak(samples):
  silence = np.zeros((1, samples), np.float32)
  assert integrated_loudness(in_blocks(silence), 48_000) is None
  assert true_peak(in_blocks(silence)) == 0


@pytest.mark.parametrize("frequency, phase", [(1 / 4, np.pi / 4), (0.2, 0.3), (0.01, 0.0)])
def test_true_peak_is_that_of_the_sine_and_not_of_its_samples(frequency, phase):
  samples = np.sin(2 * np.pi * frequency * np.arange(20_000) + phase) * np.hanning(20_000)
  found = true_peak(in_blocks(samples[None].astype(np.float32)))
  assert found == pytest.approx(1, abs=0.02)
  if frequency == 1 / 4:
    assert np.abs(samples).max() < 0.71
