"""A vocal in, an instrumental of the same length out."""

import json

import numpy as np
import pytest

from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference import memory
from singsong_jax.inference.accompanist import Accompanist


@pytest.fixture(scope="module")
def model(model_dir):
  return Accompanist.from_checkpoint(model_dir)


@pytest.fixture(scope="module")
def fine_model(model_dir, fine_model_dir):
  return Accompanist.from_checkpoint(model_dir, fine_model_dir=fine_model_dir)


@pytest.mark.parametrize(
  ("rate_hz", "channels", "seconds", "windows"),
  [
    (16_000, 1, 1.0, 1),
    (44_100, 2, 0.6, 1),
    (48_000, 1, 3.5, 6),
    (22_050, 1, 1.00005, 2),
    (8_000, 2, 1.2, 2),
    (96_000, 1, 0.7, 1),
  ],
)
def test_output_has_the_inputs_rate_channels_and_length(model, voice, rate_hz, channels, seconds, windows):
  vocals = np.tile(voice(seconds, rate_hz), (channels, 1))
  result = model.accompany(vocals, rate_hz)
  assert result.mix.shape == vocals.shape
  assert result.instrumental.shape == vocals.shape[-1:]
  assert result.instrumental.dtype == result.mix.dtype == np.float32
  assert result.details["windows"] == windows
  assert json.dumps(result.details)


def test_the_mix_is_the_original_vocal_plus_the_instrumental(model, voice):
  vocals = voice(1.0, 44_100)[None]
  result = model.accompany(vocals, 44_100)
  gain = result.details["levels"][0]["mix_gain"]
  np.testing.assert_allclose(result.mix, gain * (vocals + result.instrumental), atol=1e-6)


def test_loud_vocals_are_scaled_not_clipped(model, voice):
  vocals = voice(1.0, level=1.0)
  vocals /= np.abs(vocals).max()
  result = model.accompany(vocals, 16_000)
  assert np.abs(result.mix).max() <= 10 ** (-1 / 20) + 1e-3
  assert result.details["levels"][0]["mix_gain"] < 1


def test_the_seed_decides(model, voice):
  first, same, other = (model.accompany(voice(1.0), 16_000, seed=s).instrumental for s in (0, 0, 1))
  np.testing.assert_array_equal(first, same)
  assert not np.array_equal(first, other)


def test_a_window_does_not_depend_on_those_after_it(model, voice):
  long, short = (model.accompany(voice(3.0)[:n], 16_000) for n in (48_000, 16_000))
  unscaled = [r.instrumental[:15_600] / r.details["levels"][0]["instrumental_gain"] for r in (long, short)]
  np.testing.assert_allclose(*unscaled, atol=1e-5)  # the last frame is lapped with the one after it


def test_windows_without_overlap_are_generated_on_their_own(model, voice):
  result = model.accompany(voice(2.0), 16_000, overlap_seconds=0)
  assert (result.details["windows"], result.details["overlap_seconds"]) == (2, 0)
  other_start = np.concatenate([voice(1.0, pitch_hz=400), voice(2.0)[16_000:]])
  other = model.accompany(other_start, 16_000, overlap_seconds=0)
  second_halves = [
    r.instrumental[16_400:] / r.details["levels"][0]["instrumental_gain"] for r in (result, other)
  ]
  np.testing.assert_allclose(*second_halves, atol=1e-5)


@pytest.mark.parametrize("features", ["a_a", "sa_a"])
def test_other_featurizations_and_options(make_model, system, voice, features):
  model = Accompanist.from_checkpoint(make_model(system(features=features, vocals="clean")))
  options = SamplingOptions(top_p=0.9, guidance_scale=1.5)
  result = model.accompany(voice(1.2), 16_000, options=options)
  assert np.isfinite(result.instrumental).all()
  assert result.details["noise_sigma"] == 0
  assert result.details["sampling"]["guidance_scale"] == 1.5
  assert result.details["overlap_seconds"] == 0.5  # no semantic codes in the target


def test_each_sample_is_the_one_it_is_among_fewer(fine_model, voice):
  """Three at once have one more row than two: the same ids, the same sound."""
  three, two = (fine_model.accompany(voice(1.7), 16_000, samples=n) for n in (3, 2))
  one = fine_model.accompany(voice(1.7), 16_000)
  assert three.instrumental.shape == (3, 27_200)
  assert three.mix.shape == (3, 1, 27_200)
  assert len(three.details["levels"]) == 3
  np.testing.assert_array_equal(three.instrumental[:2], two.instrumental)
  np.testing.assert_array_equal(three.instrumental[0], one.instrumental)
  assert not np.array_equal(three.instrumental[0], three.instrumental[1])


def test_the_fine_stage_adds_to_the_same_coarse_codes(model, fine_model, voice):
  coarse_only, refined = (m.accompany(voice(1.7), 16_000) for m in (model, fine_model))
  assert refined.instrumental.shape == coarse_only.instrumental.shape
  assert not np.array_equal(refined.instrumental, coarse_only.instrumental)
  assert coarse_only.details["fine_model"] is None
  assert refined.details["fine_sampling"]["temperature"] == 0.6
  assert refined.details["stages"]["fine"]["real_time_factor"] > 0
  other = fine_model.accompany(voice(1.7), 16_000, fine_options=SamplingOptions(temperature=2.0))
  assert not np.array_equal(refined.instrumental, other.instrumental)


def test_the_instrumental_is_brought_to_a_loudness(model, voice):
  levels = model.accompany(voice(2.0), 16_000, loudness_lufs=-28.5).details["levels"][0]
  assert levels["instrumental_lufs"] == pytest.approx(-28.5, abs=0.5)


@pytest.mark.parametrize(
  ("settings", "words"),
  [
    ({"overlap_seconds": 0.3}, r"multiples of 0\.04 s below 1 s"),
    ({"samples": 0}, "samples must be at least 1"),
    ({"seed": -1}, "seed must be in 0 … 4294967295"),
    ({"loudness_lufs": 3.0}, "at most 0 LUFS, got 3"),
  ],
)
def test_settings_that_cannot_be(model, voice, settings, words):
  with pytest.raises(InputError, match=words):
    model.accompany(voice(1.0), 16_000, **settings)


@pytest.mark.parametrize(
  ("waveform", "words"),
  [
    (np.ones(16_000, np.int16), "of int16; give floats"),
    (np.ones((16_000, 2)), r"shape \(16000, 2\) has 16000 channels"),
    (np.zeros((0, 16_000)), "has 0 channels"),
  ],
)
def test_arrays_that_are_no_vocals(model, waveform, words):
  with pytest.raises(InputError, match=words):
    model.accompany(waveform, 16_000)


@pytest.mark.parametrize("changes", [{}, {"options": SamplingOptions(guidance_scale=2.0)}])
def test_more_samples_than_memory_are_refused_before_anything_is_generated(
  fine_model, voice, monkeypatch, changes
):
  monkeypatch.setattr(memory, "available_bytes", lambda: 20_000_000)
  with pytest.raises(
    InputError, match=r"samples=100000 would take .* GiB .* available; at most \d+ fit"
  ) as error:
    fine_model.accompany(voice(1.0), 16_000, samples=100_000, **changes)
  fitting = int(str(error.value).split()[-2])
  fine_model.accompany(voice(1.0), 16_000, samples=min(2, fitting), **changes)
  assert 8 <= fitting < 100_000
