import itertools

import numpy as np
import pytest

from singsong_jax.audio.synthesis import theory
from singsong_jax.audio.synthesis.theory import Chord, compose, triad

SCORES = [compose(seed, 30.0) for seed in range(40)]


@pytest.mark.parametrize("tonic, mode, degree, expected", [
  (0, "maj", 0, "C:maj"), (0, "maj", 1, "D:min"), (7, "maj", 4, "D:maj"), (0, "maj", 5, "A:min"),
  (9, "min", 0, "A:min"), (9, "min", 2, "C:maj"), (9, "min", 4, "E:min"), (9, "min", 6, "G:maj"),
])  # fmt: skip
def test_triads_by_hand(tonic, mode, degree, expected):
  assert str(triad(tonic, mode, degree)) == expected


def test_chord_tones_by_hand():
  assert Chord(root=9, quality="min").pitch_classes == (9, 0, 4)
  assert Chord(root=9, quality="maj").pitch_classes == (9, 1, 4)


def test_probabilities_sum_to_one_and_every_chord_leads_on():
  for chain in theory._PROGRESSIONS.values():
    for following in chain.values():
      assert sum(following.values()) == pytest.approx(1) and set(following) <= set(chain)


@pytest.mark.parametrize("score", SCORES)
def test_beats_bars_and_chords(score):
  beats = np.array(score.beats_seconds)
  assert 80 <= score.tempo_bpm <= 140 and 0 <= beats[0] < 60 / score.tempo_bpm
  np.testing.assert_allclose(np.diff(beats), 60 / score.tempo_bpm, atol=2e-6)
  assert score.seconds - 60 / score.tempo_bpm - 1e-6 <= beats[-1] < score.seconds
  assert len(score.chords) == len(beats)
  assert score.chords[0] == Chord(root=score.tonic, quality=score.mode)
  for beat in range(1, len(beats)):
    assert score.place_in_bar(beat) == 0 or score.chords[beat] == score.chords[beat - 1]


@pytest.mark.parametrize("score", SCORES)
def test_notes_follow_one_another_within_the_song(score):
  starts = np.array([note.start_seconds for note in score.notes])
  ends = starts + [note.duration_seconds for note in score.notes]
  assert (starts[1:] >= ends[:-1] - 1e-5).all() and ends[-1] <= score.seconds + 1e-5
  assert all(57 <= note.midi <= 79 for note in score.notes)
  half_beats = (starts - score.beats_seconds[0]) / score.beat_seconds * 2
  np.testing.assert_allclose(half_beats, np.round(half_beats), atol=1e-4)


def test_melodies_fit_their_chords_and_rest_now_and_then():
  on_beat = on_chord = 0
  for score in SCORES:
    for note in score.notes:
      beat = (note.start_seconds - score.beats_seconds[0]) / score.beat_seconds
      if abs(beat - round(beat)) < 1e-3:
        on_beat += 1
        on_chord += note.midi % 12 in score.chords[round(beat)].pitch_classes
  assert 0.9 < on_chord / on_beat < 0.97  # .9, and 3/7 of the rest by chance: .94
  sung = sum(note.duration_seconds for score in SCORES for note in score.notes)
  assert sung / sum(score.seconds - score.beats_seconds[0] for score in SCORES) == pytest.approx(
    0.88, abs=0.03
  )


def test_songs_differ_in_all_that_is_drawn():
  assert {score.tonic for score in SCORES} == set(range(12))
  assert {score.style for score in SCORES} == set(theory.STYLES)
  assert {score.mode for score in SCORES} == {"maj", "min"} and {score.bar_phase for score in SCORES} == {
    0,
    1,
    2,
    3,
  }
  assert all(one.notes != other.notes for one, other in itertools.pairwise(SCORES))


def test_equal_seeds_give_equal_scores():
  assert compose(7, 12.5) == compose(7, 12.5)
