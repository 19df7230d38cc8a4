"""The lapped transform is orthonormal, invertible, and a spectrum."""

import numpy as np
import pytest

from singsong_jax.codecs import lapped_transform as lt


@pytest.mark.parametrize(("samples", "hop"), [(160_000, 320), (320, 320), (640, 320), (1001, 7), (12, 4)])
def test_perfect_reconstruction_and_energy(samples, hop):
  waveform = np.random.default_rng(0).uniform(-1, 1, (2, samples)).astype(np.float32)
  blocks = lt.split_blocks(waveform, hop)
  spectrum = lt.transform(blocks)
  assert spectrum.shape == (2, samples // hop, hop)
  assert spectrum.dtype == np.float32
  np.testing.assert_allclose(lt.inverse_transform(spectrum), blocks, atol=2e-6)
  np.testing.assert_allclose(np.square(spectrum).sum(), np.square(waveform).sum(), rtol=1e-5)


def test_matrix_is_orthonormal():
  matrix = lt.transform(np.eye(24, dtype=np.float32).reshape(24, 4, 6)).reshape(24, 24)
  np.testing.assert_allclose(matrix @ matrix.T, np.eye(24), atol=1e-6)


def test_equals_the_windowed_mdct_sum_inside():
  hop, block = 8, 2
  waveform = np.random.default_rng(1).normal(size=hop * 5).astype(np.float32)
  n, k = np.arange(2 * hop), np.arange(hop)[:, None]
  window = np.sin(np.pi / (2 * hop) * (n + 0.5))
  piece = waveform[(block * hop - hop // 2) :][: 2 * hop]
  # DCT-IV basis of the block continued over half a block on either side.
  basis = np.sqrt(2 / hop) * np.cos(np.pi / hop * (n - hop // 2 + 0.5) * (k + 0.5))
  expected = basis @ (window * piece)
  np.testing.assert_allclose(lt.transform(lt.split_blocks(waveform, hop))[block], expected, atol=1e-5)


def test_a_tone_stays_in_its_bins():
  tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
  energy = np.square(lt.transform(lt.split_blocks(tone, 320)))[1:-1]
  assert energy[:, 37:43].sum() > 0.999 * energy.sum()  # 1000 Hz = bin 39.5 of 25 Hz


def test_short_waveforms_are_padded_with_zeros():
  blocks = lt.split_blocks(np.ones(5, np.float32), 4)
  np.testing.assert_array_equal(blocks, [[1, 1, 1, 1], [1, 0, 0, 0]])
  assert lt.split_blocks(np.zeros((3, 0)), 4).shape == (3, 0, 4)
