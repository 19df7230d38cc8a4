"""What is played and sung: key, tempo, chords and melody of a demo song."""

import dataclasses
import math

import numpy as np

PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
BEATS_PER_BAR = 4
# What accompanies is not to be guessed from the voice, so there is more than one right answer to learn.
STYLES = ("piano_quarters", "pad", "piano_eighths", "pad")

_SCALES = {"maj": (0, 2, 4, 5, 7, 9, 11), "min": (0, 2, 3, 5, 7, 8, 10)}
# Chord changes from bar to bar: scale degree (0 = I or i) → {next degree: probability}.
_PROGRESSIONS = {
  "maj": {
    0: {3: 0.3, 4: 0.3, 5: 0.25, 1: 0.15},
    1: {4: 0.8, 3: 0.2},
    3: {0: 0.35, 4: 0.4, 1: 0.25},
    4: {0: 0.6, 5: 0.3, 3: 0.1},
    5: {3: 0.4, 1: 0.3, 4: 0.3},
  },
  "min": {
    0: {3: 0.3, 5: 0.3, 6: 0.25, 2: 0.15},
    2: {5: 0.5, 6: 0.5},
    3: {0: 0.4, 6: 0.4, 4: 0.2},
    4: {0: 0.7, 5: 0.3},
    5: {6: 0.5, 2: 0.25, 3: 0.25},
    6: {0: 0.6, 2: 0.4},
  },
}
_DURATIONS_BEATS = (0.5, 0.5, 1, 1, 1.5, 2)
_REST_PROBABILITY = 0.12
_CHORD_TONE_PROBABILITY = 0.9
_VOICE_RANGE = np.arange(57, 80)  # MIDI A3 … G5
_VOICE_CENTRE, _VOICE_SPREAD, _STEP_SCALE = 67, 9, 2.5  # semitones


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chord:
  """A major or minor triad. `root` is a pitch class, 0 = C."""

  root: int
  quality: str

  @property
  def pitch_classes(self) -> tuple[int, int, int]:
    third = 4 if self.quality == "maj" else 3
    return self.root, (self.root + third) % 12, (self.root + 7) % 12

  def __str__(self) -> str:
    return f"{PITCH_NAMES[self.root]}:{self.quality}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
  """A sung note. `midi` is its pitch, 69 = A4 = 440 Hz."""

  start_seconds: float
  duration_seconds: float
  midi: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """A song on paper, in 4/4.

  Attributes:
    seconds: length of the song.
    tonic: pitch class of the key, 0 = C. mode: 'maj' or 'min'.
    tempo_bpm: beats per minute.
    beats_seconds: when the beats are, all in [0, seconds).
    bar_phase: place in its bar of the first beat, 0 … 3; 0 means it is a downbeat.
    chords: one per beat (a bar's beats share one).
    notes: the melody, in order, never two at once.
    style: one of STYLES.
  """

  seconds: float
  tonic: int
  mode: str
  tempo_bpm: int
  beats_seconds: tuple[float, ...]
  bar_phase: int
  chords: tuple[Chord, ...]
  notes: tuple[Note, ...]
  style: str

  @property
  def beat_seconds(self) -> float:
    return 60 / self.tempo_bpm

  def place_in_bar(self, beat: int) -> int:
    """0 for a downbeat … 3."""
    return (self.bar_phase + beat) % BEATS_PER_BAR


def compose(seed: int, seconds: float) -> Score:
  """Draws a score of `seconds` length; equal arguments give equal scores."""
  rng = np.random.default_rng([seed, 0])
  tonic, mode = int(rng.integers(12)), str(rng.choice(["maj", "min"]))
  tempo_bpm = int(rng.integers(80, 141))
  first_beat_seconds = rng.uniform(0, min(60 / tempo_bpm, seconds / 2))
  num_beats = math.ceil((seconds - first_beat_seconds) * tempo_bpm / 60)
  beats_seconds = first_beat_seconds + np.arange(num_beats) * 60 / tempo_bpm
  bar_phase = int(rng.integers(BEATS_PER_BAR))
  chords = _chords(rng, tonic, mode, num_beats, bar_phase)
  style = STYLES[rng.integers(len(STYLES))]
  end_beats = (seconds - first_beat_seconds) * tempo_bpm / 60
  melody = _melody(rng, tonic, mode, chords, end_beats)
  notes = tuple(
    Note(
      start_seconds=round(first_beat_seconds + start * 60 / tempo_bpm, 6),
      duration_seconds=round(duration * 60 / tempo_bpm, 6),
      midi=midi,
    )
    for start, duration, midi in melody
  )
  return Score(
    seconds=seconds,
    tonic=tonic,
    mode=mode,
    tempo_bpm=tempo_bpm,
    beats_seconds=tuple(np.round(beats_seconds, 6).tolist()),
    bar_phase=bar_phase,
    chords=chords,
    notes=notes,
    style=style,
  )


def triad(tonic: int, mode: str, degree: int) -> Chord:
  """The triad on a degree (0 … 6) of a scale, built from the scale's own notes."""
  scale = _SCALES[mode]
  root = scale[degree]
  third = (scale[(degree + 2) % 7] - root) % 12
  return Chord(root=(tonic + root) % 12, quality="maj" if third == 4 else "min")


def _chords(
  rng: np.random.Generator, tonic: int, mode: str, num_beats: int, bar_phase: int
) -> tuple[Chord, ...]:
  """One chord per bar from the Markov chain, starting on the tonic; repeated for each of its beats."""
  num_bars = math.ceil((bar_phase + num_beats) / BEATS_PER_BAR)
  degrees = [0]
  while len(degrees) < num_bars:
    following = _PROGRESSIONS[mode][degrees[-1]]
    degrees.append(int(rng.choice(list(following), p=list(following.values()))))
  return tuple(triad(tonic, mode, degrees[(bar_phase + beat) // BEATS_PER_BAR]) for beat in range(num_beats))


def _melody(
  rng: np.random.Generator, tonic: int, mode: str, chords: tuple[Chord, ...], end_beats: float
) -> list[tuple[float, float, int]]:
  """(start, duration, midi) of each note, in beats from the first beat; nothing passes `end_beats`."""
  scale = [(tonic + step) % 12 for step in _SCALES[mode]]
  notes, start, midi = [], 0.0, _VOICE_CENTRE
  while start < end_beats:
    duration = float(rng.choice(_DURATIONS_BEATS))
    if rng.random() >= _REST_PROBABILITY:
      on_chord = start.is_integer() and rng.random() < _CHORD_TONE_PROBABILITY
      allowed = chords[int(start)].pitch_classes if on_chord else scale
      midi = _next_pitch(rng, midi, allowed)
      notes.append((start, min(duration, end_beats - start), midi))
    start += duration
  return notes


def _next_pitch(rng: np.random.Generator, previous: int, allowed_pitch_classes) -> int:
  """Small steps are likelier than leaps, the middle of the voice likelier than its ends."""
  candidates = _VOICE_RANGE[np.isin(_VOICE_RANGE % 12, allowed_pitch_classes)]
  weights = np.exp(-np.abs(candidates - previous) / _STEP_SCALE)
  weights *= np.exp(-0.5 * np.square((candidates - _VOICE_CENTRE) / _VOICE_SPREAD))
  return int(rng.choice(candidates, p=weights / weights.sum()))
