"""STFT, mel filters, log-mel frames and the distances that losses are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.networks import spectra
from singsong_jax.networks.spectra import MelScale

RATE = 16_000


def sine(hz, samples=3200, amplitude=1.0):
  return jnp.array(amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / RATE), jnp.float32)[None]


@pytest.mark.parametrize("window,hop", [(8, 2), (10, 4), (400, 160)])
def test_frames_are_slices(window, hop):
  x = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
  expected = np.lib.stride_tricks.sliding_window_view(x, window, axis=1)[:, ::hop]
  np.testing.assert_array_equal(spectra.frames_of(jnp.array(x), window, hop), expected)


def test_a_full_scale_sine_peaks_at_one_half():
  magnitudes = np.abs(np.asarray(spectra.stft(sine(1000.0), 512, 128)))
  assert magnitudes.shape == (1, 3200 // 128 + 1, 257)
  assert magnitudes[0, 10].argmax() == 32  # 1000 Hz in bins of 31.25 Hz
  assert magnitudes[0, 10, 32] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("scale", [*spectra.DAC_SCALES, *spectra.PAPER_SCALES])
def test_no_band_is_empty(scale):
  """64 bands of a window of 64 samples have no bin each; such bands are left out."""
  filters = spectra.mel_filters(RATE, max(512, scale.window), scale.num_mels)
  assert filters.shape[0] == max(512, scale.window) // 2 + 1 and 0 < filters.shape[1] <= scale.num_mels
  np.testing.assert_allclose(filters.sum(axis=0), 1, rtol=1e-5)


def test_log_mel_has_a_frame_per_hop_and_looks_ahead_by_less_than_one():
  waveform = jnp.zeros((1, 160_000))
  settings = {"sample_rate_hz": RATE, "num_mels": 80, "window": 400, "hop": 160}
  silent = spectra.log_mel(waveform, **settings)
  assert silent.shape == (1, 1000, silent.shape[2])
  changed = spectra.log_mel(waveform.at[0, 8000].set(1.0), **settings)
  frames = np.flatnonzero(np.abs(np.asarray(changed - silent)).max(axis=(0, 2)) > 1e-6)
  # 48 · 160 + 400 > 8000; frame 50 begins at sample 8000, where its window is 0.
  assert (frames.min(), frames.max()) == (48, 49)


@pytest.mark.parametrize(
  "distance",
  [
    lambda a, b: spectra.log_mel_distance(a, b, spectra.DAC_SCALES, RATE),
    lambda a, b: spectra.papers_distance(a, b, RATE),
  ],
)
def test_distances_are_zero_for_equals_and_grow_with_the_difference(distance):
  x, distance = sine(440.0, amplitude=0.3), jax.jit(distance)
  noise = jnp.array(np.random.default_rng(0).normal(size=x.shape), jnp.float32)
  values = [float(distance(x, x + level * noise)[0]) for level in (0.0, 0.01, 0.1)]
  assert values[0] < 2e-3 and values[0] < values[1] < values[2]
  gradient = jax.jit(jax.grad(lambda y: jnp.sum(distance(jnp.zeros_like(x), y))))(jnp.zeros_like(x))
  assert np.isfinite(gradient).all(), "silence against silence"


def test_the_papers_weight_of_each_scale():
  """On spectra that differ by a factor e everywhere: α_s = √(s/2) times 1, summed over scales."""
  noise = jnp.array(np.random.default_rng(0).normal(size=(1, 16_000)), jnp.float32)
  value = float(spectra.papers_distance(noise * 1e3, noise * 1e3 * np.e, RATE)[0])
  linear = sum(
    float(jnp.mean(spectra.mel_spectrum(noise * 1e3, scale, RATE))) * (np.e - 1)
    for scale in spectra.PAPER_SCALES
  )
  assert value - linear == pytest.approx(
    sum(np.sqrt(scale.window / 2) for scale in spectra.PAPER_SCALES), rel=1e-3
  )


def test_si_sdr_by_hand():
  reference, error = sine(500.0), sine(1500.0, amplitude=0.1)  # orthogonal over whole periods
  np.testing.assert_allclose(spectra.si_sdr_db(reference, 3 * (reference + error)), [20.0], atol=1e-3)


def test_scales_are_dacs_and_the_papers():
  assert spectra.DAC_SCALES[0] == MelScale(32, 8, 5) and spectra.DAC_SCALES[-1] == MelScale(2048, 512, 320)
  assert [scale.window for scale in spectra.PAPER_SCALES] == [64, 128, 256, 512, 1024, 2048]
