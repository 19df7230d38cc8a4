"""A vocal in, an instrumental of the same length out."""

import dataclasses

import numpy as np
import pytest

from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference.accompanist import Accompanist, check_vocals


@pytest.fixture(scope="module")
def model(model_dir):
  return Accompanist.from_checkpoint(model_dir)


@pytest.mark.parametrize(
  ("rate_hz", "channels", "seconds", "windows"),
  [(16_000, 1, 1.0, 1), (44_100, 2, 0.6, 1), (48_000, 1, 2.3, 3), (22_050, 1, 1.00005, 2)],
)
def test_output_has_the_inputs_rate_channels_and_length(model, voice, rate_hz, channels, seconds, windows):
  vocals = np.tile(voice(seconds, rate_hz), (channels, 1))
  result = model.accompany(vocals, rate_hz)
  assert result.mix.shape == vocals.shape
  assert result.instrumental.shape == vocals.shape[-1:]
  assert result.details["windows"] == windows


def test_the_mix_is_the_original_vocal_plus_the_instrumental(model, voice):
  vocals = voice(1.0, 44_100)[None]
  result = model.accompany(vocals, 44_100)
  gain = result.details["mix_gain"]
  np.testing.assert_allclose(result.mix, gain * (vocals + result.instrumental), atol=1e-6)


def test_loud_vocals_are_scaled_not_clipped(model, voice):
  vocals = voice(1.0, level=1.0)[None]
  vocals /= np.abs(vocals).max()
  result = model.accompany(vocals, 16_000)
  assert np.abs(result.mix).max() <= 1.0
  assert result.details["mix_gain"] <= 1.0


def test_the_seed_decides(model, voice):
  vocals = voice(1.0)[None]
  first, same, other = (model.accompany(vocals, 16_000, seed=s).instrumental for s in (0, 0, 1))
  np.testing.assert_array_equal(first, same)
  assert not np.array_equal(first, other)


def test_a_window_does_not_depend_on_those_after_it(model, voice):
  vocals = voice(3.0)[None]
  long, short = model.accompany(vocals, 16_000), model.accompany(vocals[:, :16_000], 16_000)
  unscaled = [result.instrumental[:16_000] / result.details["instrumental_gain"] for result in (long, short)]
  np.testing.assert_allclose(*unscaled, atol=1e-5)


@pytest.mark.parametrize("features", ["s_sa", "a_a", "sa_a"])
def test_other_featurizations(make_model, system, voice, features):
  model = Accompanist.from_checkpoint(make_model(system(features=features, vocals="clean")))
  result = model.accompany(voice(1.0)[None], 16_000, options=SamplingOptions(greedy=True))
  assert np.isfinite(result.instrumental).all()
  assert result.details["noise_sigma"] == 0


@pytest.mark.parametrize(
  ("waveform", "message"),
  [
    (np.zeros((1, 16_000)), "silent"),
    (np.full((1, 16_000), np.nan), "NaN"),
    (np.ones((3, 16_000)), "3 channels"),
    (np.ones((1, 1_600)), "0.10 s"),
    (np.ones((1, 16_000 * 601)), "601.00 s"),
    (np.ones((1, 0)), "0.00 s"),
  ],
)
def test_vocals_that_cannot_be_accompanied(waveform, message):
  with pytest.raises(InputError, match=message):
    check_vocals(waveform.astype(np.float32), 16_000)


def test_tokenisers_of_another_model_are_refused(model, system):
  other = dataclasses.replace(system(), geometry=dataclasses.replace(system().geometry, acoustic_rate_hz=25))
  with pytest.raises(InputError, match="codec frames per second"):
    Accompanist(other, None, model._tokenizers, 0)
