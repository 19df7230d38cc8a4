"""Vocals are looked at and cut without ever being held whole."""

import numpy as np
import pytest

from singsong_jax.audio.resampling import resample
from singsong_jax.audio.tracks import BLOCK_SAMPLES, ArrayTrack
from singsong_jax.errors import InputError
from singsong_jax.inference.vocals import check_vocals


def track(waveform, rate_hz=16_000):
  return ArrayTrack(np.asarray(waveform, np.float32), rate_hz, "voice.wav")


class Endless:
  """A voice without end, of which no more than `limit` blocks may be asked for."""

  name, sample_rate_hz = "voice.wav", 16_000

  def __init__(self, limit):
    self._limit = limit

  def blocks(self):
    for _ in range(self._limit):
      yield np.full((1, BLOCK_SAMPLES), 0.1, np.float32)
    raise AssertionError("read too far")


def test_what_is_found_out(voice):
  stereo = np.tile(voice(1.5, 44_100), (2, 1))
  vocals = check_vocals(track(stereo, 44_100))
  assert (vocals.channels, vocals.num_samples, vocals.sample_rate_hz) == (2, 66_150, 44_100)
  assert vocals.seconds == 1.5
  assert vocals.samples_at(16_000) == 24_000


def test_the_hash_is_of_rate_channels_and_samples(voice):
  same = [check_vocals(track(voice(1.0)[None], rate)).sha256 for rate in (16_000, 16_000)]
  assert same[0] == same[1]
  others = [
    check_vocals(track(voice(1.0)[None], 16_001)).sha256,
    check_vocals(track(np.tile(voice(1.0), (2, 1)))).sha256,
    check_vocals(track(voice(1.0)[None] * 1.001)).sha256,
  ]
  assert len({*same, *others}) == 4


def test_windows_are_those_of_the_resampled_whole(voice):
  stereo = np.stack([voice(7.0, 44_100), voice(7.0, 44_100, pitch_hz=100)])
  vocals = check_vocals(track(stereo, 44_100))
  assert stereo.shape[1] > BLOCK_SAMPLES
  whole = np.pad(resample(stereo.mean(axis=0), 44_100, 16_000), (0, 16_000))
  windows = list(vocals.windows([0, 2.5, 6.25], 1.0, 16_000))
  for start, window in zip([0, 40_000, 100_000], windows, strict=True):
    np.testing.assert_array_equal(window, whole[start : start + 16_000])


BAD = {
  "is silent": np.zeros((1, 16_000)),
  "nan at sample 77": np.where(np.arange(16_000) == 77, np.nan, 0.1)[None],
  "3 channels": np.ones((3, 16_000)),
  r"0\.10 s": np.ones((1, 1_600)),
  r"0\.00 s": np.ones((1, 0)),
}


@pytest.mark.parametrize("message", BAD)
def test_vocals_that_cannot_be_accompanied(message):
  with pytest.raises(InputError, match=rf"voice\.wav.* {message}"):
    check_vocals(track(BAD[message]))


def test_a_bad_sample_in_a_later_block_is_named_by_its_place():
  waveform = np.full((1, BLOCK_SAMPLES + 10), 0.1)
  waveform[0, BLOCK_SAMPLES + 3] = np.inf
  with pytest.raises(InputError, match=f"sample {BLOCK_SAMPLES + 3} "):
    check_vocals(track(waveform))


def test_reading_stops_at_the_limit():
  with pytest.raises(InputError, match="longer than 20 s"):
    check_vocals(Endless(limit=2), max_seconds=20)


def test_one_loud_block_is_enough():
  waveform = np.zeros((1, 2 * BLOCK_SAMPLES))
  waveform[:, -1_000:] = 0.1
  assert check_vocals(track(waveform)).num_samples == 2 * BLOCK_SAMPLES
