import json

import numpy as np
import pytest

from singsong_jax.audio.filtering import FilterSettings, rejection_reason
from singsong_jax.audio.resampling import resample
from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.audio.synthesis.theory import PITCH_NAMES

SONGS = [synthesize_song(seed, 10.0) for seed in range(8)]


@pytest.mark.parametrize("song", SONGS)
def test_levels(song):
  assert song.vocals.shape == song.instrumental.shape == (441_000,)
  assert song.vocals.dtype == song.instrumental.dtype == np.float32
  assert np.abs(song.mix).max() <= 0.99 + 1e-6
  gain = np.abs(song.vocals).max() / 0.5
  assert gain <= 1 + 1e-6 and np.abs(song.instrumental).max() == pytest.approx(0.6 * gain, rel=1e-4)
  np.testing.assert_array_equal(song.mix, song.vocals + song.instrumental)
  assert rejection_reason(song.vocals, song.instrumental, 44_100, FilterSettings()) is None
  assert np.abs(song.mix[-3:]).max() < 0.01  # faded out


@pytest.mark.parametrize("song", SONGS)
def test_drums_are_on_the_beats(song):
  # Differences bring out the hi-hats and snares; energy per millisecond.
  energy = np.add.reduceat(np.diff(song.instrumental, prepend=0) ** 2, np.arange(0, 441_000, 44))
  for beat_seconds in song.annotation["beats_seconds"]:
    if 0.05 < beat_seconds < 9.9:
      index = round(beat_seconds * 44_100 / 44)
      around = energy[index - 40 : index + 40]
      onset = np.argmax(around > 0.2 * around.max()) - 40
      assert abs(onset) <= 10


def chroma(waveform, rate_hz=16_000, size=4_096):
  """Magnitude per pitch class, 60 … 2100 Hz. [frames, 12], hop 512"""
  frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[::512] * np.hanning(size)
  hz = np.fft.rfftfreq(size, 1 / rate_hz)
  used = (hz > 60) & (hz < 2_100)
  pitch_class = np.round(69 + 12 * np.log2(hz[used] / 440)).astype(int) % 12
  return np.abs(np.fft.rfft(frames))[:, used] @ np.eye(12)[pitch_class]


@pytest.mark.slow
def test_the_chords_are_heard():
  shares = []
  for song in SONGS:
    heard = chroma(resample(song.instrumental, 44_100, 16_000))
    centres = (np.arange(len(heard)) * 512 + 2_048) / 16_000
    beats, chords = song.annotation["beats_seconds"], song.annotation["chords"]
    for start, end, chord in zip(beats, beats[1:], chords):
      energy = heard[(centres >= start) & (centres < end)].sum(axis=0)
      root, quality = chord.split(":")
      root = PITCH_NAMES.index(root)
      tones = [root, (root + (4 if quality == "maj" else 3)) % 12, (root + 7) % 12]
      shares.append(energy[tones].sum() / energy.sum())
  assert np.mean(shares) > 0.4  # .25 would be chance


def test_seed_and_length_decide_everything():
  again = synthesize_song(3, 10.0)
  np.testing.assert_array_equal(again.mix, SONGS[3].mix)
  assert again.annotation == SONGS[3].annotation
  assert synthesize_song(3, 10.0, sample_rate_hz=16_000).annotation == again.annotation


@pytest.mark.parametrize("seconds, sample_rate_hz", [(1.0, 44_100), (1.0, 16_000), (3.3, 22_050)])
def test_other_lengths_and_rates(seconds, sample_rate_hz):
  song = synthesize_song(5, seconds, sample_rate_hz)
  assert song.mix.shape == (round(seconds * sample_rate_hz),) and np.isfinite(song.mix).all()
  assert np.abs(song.instrumental).max() > 0.5


def test_annotation_is_plain_json():
  annotation = SONGS[0].annotation
  assert json.loads(json.dumps(annotation)) == annotation
  assert annotation["seed"] == 0 and len(annotation["chords"]) == len(annotation["beats_seconds"])
