import numpy as np
import pytest

from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.errors import InputError
from singsong_jax.evaluation import vocal_use
from singsong_jax.evaluation.musical import METRICS, RATE_HZ, Truth, hear_key

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def song():
  return synthesize_song(7, 10.0, RATE_HZ)


def prepared(song, condition):
  truth = Truth.from_annotation(song.annotation)
  other = np.ones(1000, np.float32)
  return vocal_use.prepare(condition, song.vocals, other, RATE_HZ, truth, np.random.default_rng(0))


@pytest.mark.parametrize("condition", vocal_use.CONDITIONS)
def test_vocals_keep_their_length_and_are_finite(song, condition):
  heard = prepared(song, condition)
  assert len(heard.vocals) == len(song.vocals)
  assert np.isfinite(heard.vocals).all()


def test_what_is_moved_and_what_is_not(song):
  truth = Truth.from_annotation(song.annotation)
  for condition in ("right", "shuffled", "silence", "noise"):
    assert prepared(song, condition).moved == truth
  late = prepared(song, "half_beat")
  half = 30 / truth.tempo_bpm
  assert late.moved.beats_seconds[0] == pytest.approx(truth.beats_seconds[0] + half, abs=1e-3)
  assert max(late.moved.beats_seconds) < 10
  assert np.array_equal(late.vocals[round(half * RATE_HZ) :][:1000], song.vocals[:1000])
  high = prepared(song, "tritone")
  assert high.moved.beats_seconds == truth.beats_seconds
  assert high.moved.key != truth.key
  assert high.moved.key.split(":")[1] == truth.key.split(":")[1]


def test_a_tritone_moves_the_pitch_as_far_as_the_truth():
  """A scale in C, moved, is in F♯."""
  steps = [440 * 2 ** ((m - 69) / 12) for m in (60, 62, 64, 65, 67, 69, 71, 72, 67, 60)]
  scale = np.concatenate([0.3 * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ) for hz in steps])
  truth = Truth(beats_seconds=(0.0, 1.0), chords=("C:maj", None), key="C:maj", tempo_bpm=60)
  heard = vocal_use.prepare("tritone", scale, scale, RATE_HZ, truth, RNG)
  assert heard.moved.key == hear_key(heard.vocals) == "F#:maj"
  assert heard.moved.chords == ("F#:maj", None)


def test_the_true_accompaniment_moved_along_scores_by_the_moved_truth(song):
  heard = prepared(song, "half_beat")
  half = round(30 / song.annotation["tempo_bpm"] * RATE_HZ)
  late = np.concatenate([np.zeros(half, np.float32), song.instrumental])[: len(song.instrumental)]
  scores = vocal_use.score(heard, late)
  assert set(scores) == {*METRICS, *(f"unmoved_{name}" for name in METRICS)}
  assert scores["beat_f"] > scores["unmoved_beat_f"] + 0.5


def scores(chord, beat, unmoved_chord=0.04, unmoved_beat=0.25, songs=40):
  rng = np.random.default_rng(1)
  return [
    {
      "chord_24": chord + rng.normal(0, 0.1),
      "beat_f": beat + rng.normal(0, 0.1),
      "unmoved_chord_24": unmoved_chord + rng.normal(0, 0.1),
      "unmoved_beat_f": unmoved_beat + rng.normal(0, 0.1),
    }
    for _ in range(songs)
  ]


def test_a_model_that_listens_passes():
  listens = {name: scores(0.4, 0.7) for name in ("right", "half_beat", "tritone")}
  deaf = {name: scores(0.04, 0.25) for name in ("shuffled", "silence", "noise")}
  comparisons = vocal_use.compare({**listens, **deaf})
  assert len(comparisons) == 8
  assert all(comparison.holds for comparison in comparisons)


def test_a_model_that_does_not_listen_fails_everywhere():
  """Its accompaniments are good ones, and have nothing to do with the vocals."""
  comparisons = vocal_use.compare({name: scores(0.3, 0.6, 0.3, 0.6) for name in vocal_use.CONDITIONS})
  assert not any(comparison.holds for comparison in comparisons)


def test_one_that_hears_the_beat_but_no_pitch_fails_by_chords():
  rows = {name: scores(0.04, 0.7) for name in ("right", "half_beat", "tritone")}
  rows |= {name: scores(0.04, 0.25) for name in ("shuffled", "silence", "noise")}
  failed = [comparison.claim for comparison in vocal_use.compare(rows) if not comparison.holds]
  assert len(failed) == 4
  assert all("chord" in claim for claim in failed)


def test_an_unknown_condition_is_an_error(song):
  with pytest.raises(InputError, match="'louder'"):
    prepared(song, "louder")
