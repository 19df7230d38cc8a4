"""The vocal-use gate on a small world: a model that was trained on pairs passes, one trained on shuffled
pairs fails.

In that world a voice hums one of 12 pitches in pulses, of one of 3 tempi and 4 places of the first, and a
band plays the major triad on it, in the same pulses. The model is the simplest that can be trained: it
remembers pairs, and plays what belongs to the vocals that sound most like those it hears.
"""

import dataclasses
import itertools

import numpy as np
import pytest

from singsong_jax.evaluation import vocal_use
from singsong_jax.evaluation.judgement import Judge
from singsong_jax.evaluation.making import Maker
from singsong_jax.evaluation.musical import RATE_HZ, TRIADS, Truth, chromagram

SECONDS, TEST_SONGS = 5, 24
WORLD = [*itertools.product(range(12), (0.4, 0.5, 0.6), range(4))]  # root, beat in seconds, quarter of it


@dataclasses.dataclass(frozen=True)
class SimpleSong:
  """As `evaluation.songs.Song`, made up. `breath` tells the singer's voice from that of others."""

  root: int
  beat: float
  quarter: int
  breath: int = 0

  track = property(lambda self: self.name)

  @property
  def name(self):
    return f"{self.root}_{self.beat}_{self.quarter}"

  def truth(self):
    beats = tuple(np.arange(self.quarter * self.beat / 4, SECONDS, self.beat))
    chord = TRIADS[self.root]
    return Truth(beats_seconds=beats, chords=(chord,) * len(beats), key=chord, tempo_bpm=60 / self.beat)

  def read_vocals(self):
    noise = np.random.default_rng(self.breath).normal(0, 0.003, SECONDS * RATE_HZ)
    return self._pulses((0,)) + noise.astype(np.float32), RATE_HZ

  def read_instrumental(self, rate_hz=RATE_HZ):
    return self._pulses((0, 4, 7))

  def _pulses(self, intervals):
    times, beats = np.arange(SECONDS * RATE_HZ) / RATE_HZ, np.array(self.truth().beats_seconds)
    since = times - np.array([-9.0, *beats])[np.searchsorted(beats, times, side="right")]
    tones = sum(np.sin(2 * np.pi * 440 * 2 ** ((self.root + i - 9) / 12) * times) for i in intervals)
    return (0.15 * tones * np.exp(-8 * since) * np.minimum(1, since / 0.005)).astype(np.float32)


class Memory:
  """Plays what it was shown with the nearest vocals."""

  def __init__(self, pairs):
    self._heard = np.stack([_features(vocals) for vocals, _ in pairs])
    self._played = [instrumental for _, instrumental in pairs]

  def __call__(self, vocals, rate_hz, seed):
    distances = np.linalg.norm(self._heard - _features(vocals), axis=(1, 2))
    return self._played[int(np.argmin(distances))]


def _features(vocals):
  return chromagram(vocals) / (1e-6 + np.linalg.norm(vocals))


def verdict_on(model, folder):
  picks = np.random.default_rng(1).choice(len(WORLD), TEST_SONGS, replace=False)
  songs = [SimpleSong(*WORLD[i], breath=1000 + i) for i in picks]
  rows = Judge(songs=songs, maker=Maker(folder=folder)).conditions(model)
  return {comparison.claim: comparison for comparison in vocal_use.compare(rows)}


@pytest.fixture(scope="module")
def pairs():
  return [(song.read_vocals()[0], song.read_instrumental()) for song in itertools.starmap(SimpleSong, WORLD)]


@pytest.mark.slow
def test_a_model_trained_on_pairs_passes(pairs, tmp_path):
  found = verdict_on(Memory(pairs), tmp_path)
  assert len(found) == 8
  assert all(comparison.holds for comparison in found.values()), found


@pytest.mark.slow
def test_a_model_trained_on_shuffled_pairs_fails(pairs, tmp_path):
  order = np.random.default_rng(0).permutation(len(pairs))
  shuffled = [(vocals, pairs[j][1]) for (vocals, _), j in zip(pairs, order)]
  found = verdict_on(Memory(shuffled), tmp_path)
  assert not any(comparison.holds for comparison in found.values()), found
