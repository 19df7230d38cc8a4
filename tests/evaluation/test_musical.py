import numpy as np
import pytest

from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.errors import InputError
from singsong_jax.evaluation import musical
from singsong_jax.evaluation.musical import RATE_HZ, TRIADS, Truth, measure

SECONDS = 10


def tones(*midi: int, seconds: float = SECONDS) -> np.ndarray:
  t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
  return sum(0.2 * np.sin(2 * np.pi * 440 * 2 ** ((m - 69) / 12) * t) for m in midi).astype(np.float32)


def clicks(times) -> np.ndarray:
  waveform, rng = np.zeros(SECONDS * RATE_HZ, np.float32), np.random.default_rng(0)
  burst = (rng.normal(size=400) * np.exp(-np.arange(400) / 80)).astype(np.float32)
  for start in (round(time * RATE_HZ) for time in times):
    waveform[start : start + 400] += 0.3 * burst[: len(waveform) - start]
  return waveform


def truth(beats, chord="C:maj", key="C:maj", tempo_bpm=120.0) -> Truth:
  beats = tuple(beats)
  return Truth(beats_seconds=beats, chords=(chord,) * len(beats), key=key, tempo_bpm=tempo_bpm)


@pytest.mark.parametrize(
  "midi, chord",
  [((60, 64, 67), "C:maj"), ((57, 60, 64), "A:min"), ((54, 58, 61), "F#:maj"), ((62, 65, 69), "D:min")],
)
def test_a_triad_is_heard_as_itself(midi, chord):
  chroma = musical.beat_chroma(tones(*midi), [1.0, 2.0, 3.0])
  assert [musical.hear_chord(beat) for beat in chroma] == [chord] * 3


def test_the_triads_tones_are_its_energy():
  scores = measure(tones(60, 64, 67), truth(np.arange(0.5, 9, 0.5)))
  assert scores["chord_24"] == 1
  assert scores["chord_tone_energy"] > 0.7
  wrong = measure(tones(61, 66, 68), truth(np.arange(0.5, 9, 0.5)))
  assert wrong["chord_24"] == 0
  assert wrong["chord_tone_energy"] < 0.2


def test_chords_that_change_are_told_apart_by_beats():
  waveform = np.concatenate([tones(60, 64, 67, seconds=5), tones(57, 60, 64, seconds=5)])
  beats = tuple(np.arange(0, 10, 0.5))
  known = Truth(beats_seconds=beats, chords=("C:maj",) * 10 + ("A:min",) * 10, key="C:maj", tempo_bpm=120)
  assert measure(waveform, known)["chord_24"] >= 0.9  # the window of the chroma straddles the change


def test_clicks_on_the_beats_are_found_and_late_ones_are_late():
  beats = np.arange(0.25, 9.9, 0.5)
  on_time, late = measure(clicks(beats), truth(beats)), measure(clicks(beats + 0.112), truth(beats))
  assert on_time["beat_f"] > 0.9
  assert on_time["tempo"] == 1
  assert late["beat_f"] < 0.2
  assert late["onset_lag_seconds"] - on_time["onset_lag_seconds"] == pytest.approx(0.112, abs=0.02)
  assert abs(on_time["onset_lag_seconds"]) <= 0.033  # two hops


def test_another_tempo_is_not_the_tempo_but_its_double_is_its_octave():
  beats = np.arange(0.25, 9.9, 0.5)
  scores = measure(clicks(beats), truth(beats, tempo_bpm=60.0))
  assert scores["tempo"] == 0
  assert scores["tempo_octave"] == 1
  assert measure(clicks(beats), truth(beats, tempo_bpm=90.0))["tempo_octave"] == 0


@pytest.mark.parametrize(
  "true, heard, weight",
  [
    ("C:maj", "C:maj", 1),
    ("C:maj", "G:maj", 0.5),
    ("C:maj", "A:min", 0.3),
    ("C:maj", "C:min", 0.2),
    ("C:maj", "F#:maj", 0),
  ],
)
def test_keys_are_weighed_as_in_mirex(true, heard, weight):
  assert musical._mirex(true, heard) == pytest.approx(weight)


def test_a_scale_is_heard_in_its_key_and_probabilities_sum_to_one():
  scale = np.concatenate([tones(m, seconds=1) for m in (62, 64, 66, 67, 69, 71, 73, 74, 69, 62)])  # D major
  probabilities = musical.key_probabilities(scale)
  assert probabilities.sum() == pytest.approx(1)
  assert TRIADS[int(np.argmax(probabilities))] == "D:maj"


def test_silence_is_wrong_and_no_error():
  scores = measure(np.zeros(SECONDS * RATE_HZ, np.float32), truth(np.arange(0.5, 9, 0.5)))
  assert np.isnan(scores.pop("onset_lag_seconds"))
  assert set(scores.values()) == {0}


def test_a_demo_song_fits_itself_and_what_is_heard_in_it_fits_it():
  song = synthesize_song(7, 10.0, RATE_HZ)
  annotated = Truth.from_annotation(song.annotation)
  scores = measure(song.instrumental, annotated)
  assert scores["chord_24"] > 0.95
  assert scores["beat_f"] > 0.85
  heard = measure(song.instrumental, Truth.heard_in(song.instrumental))
  assert heard["beat_f"] == heard["chord_24"] == heard["key_exact"] == heard["tempo"] == 1


@pytest.mark.parametrize("beats", [(), (1.0,)])
def test_too_few_beats_are_an_error(beats):
  with pytest.raises(InputError, match="at least 2 beats"):
    truth(beats)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"key": "Db:maj"}, r"\['Db:maj'\] are not known; write them as C#:maj or C#:min"),
    ({"chords": ["C", None]}, r"\['C'\] are not known"),
    ({"beats_seconds": [1.0, 1.0]}, "do not rise"),
    ({"beats_seconds": [1.0, float("nan")]}, "no numbers"),
    ({"tempo_bpm": "120"}, "no numbers.*'120'"),
  ],
)
def test_annotations_that_mean_nothing_are_errors(changes, words):
  known = {"beats_seconds": [0.5, 1.0], "chords": ["C:maj", None], "key": "C:maj", "tempo_bpm": 120}
  assert Truth.from_annotation(known).chords == ("C:maj", None)
  with pytest.raises(InputError, match=words):
    Truth.from_annotation({**known, **changes})


def test_silence_has_no_truth():
  with pytest.raises(InputError, match="0 beats are heard"):
    Truth.heard_in(np.zeros(SECONDS * RATE_HZ, np.float32))
