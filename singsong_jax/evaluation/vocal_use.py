"""Does the model listen? The same model with the right vocals, with wrong ones, and with vocals that were
moved.

    right       the song's own vocals
    shuffled    another song's
    silence     nothing
    noise       white noise as loud as the vocals
    half_beat   the song's own, half a beat later: the accompaniment must come later, too
    tritone     the song's own, six semitones higher: the accompaniment must be in that key

The first four are held against the song as it is: what wrong vocals still score is what a model scores that
does not listen. The last two are held against the truth that was moved along, and against the one that was
not.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import librosa
import numpy as np

from singsong_jax.errors import InputError
from singsong_jax.evaluation import significance
from singsong_jax.evaluation.musical import TRIADS, Truth, measure

CONDITIONS = ("right", "shuffled", "silence", "noise", "half_beat", "tritone")
LEVEL = 1e-3  # of each comparison, corrected for their number
FEWEST_SONGS = 13  # with n songs no p is less than 8 · 2⁻ⁿ: a model that is always right could not be told
TRITONE = 6  # semitones
_SILENCE_RMS = 2e-3  # −54 dB: inference refuses what is below −60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
  """What a model hears in a condition, and what its answer is held against.

  Attributes:
    vocals: float32 `[samples]`.
    truth: of the song as it is.
    moved: of the song as the vocals were moved; `truth` where they were not.
  """

  vocals: np.ndarray
  truth: Truth
  moved: Truth


def prepare(
  condition: str, vocals: np.ndarray, other: np.ndarray, rate_hz: int, truth: Truth, rng: np.random.Generator
) -> Heard:
  """The vocals of a condition.

  Args:
    vocals: float `[samples]`.
    other: another song's, at the same rate.

  Raises:
    InputError: no such condition.
  """
  vocals = np.asarray(vocals, np.float32)
  if condition == "right":
    return Heard(vocals=vocals, truth=truth, moved=truth)
  if condition == "shuffled":
    return Heard(vocals=np.resize(np.asarray(other, np.float32), len(vocals)), truth=truth, moved=truth)
  if condition in ("silence", "noise"):
    level = np.sqrt(np.mean(np.square(vocals))) if condition == "noise" else _SILENCE_RMS
    noise = rng.normal(0, level, len(vocals)).astype(np.float32)
    return Heard(vocals=noise, truth=truth, moved=truth)
  if condition == "half_beat":
    late = np.concatenate([np.zeros(round(_half_a_beat(truth) * rate_hz), np.float32), vocals])
    return Heard(
      vocals=late[: len(vocals)], truth=truth, moved=half_a_beat_later(truth, len(vocals) / rate_hz)
    )
  if condition == "tritone":
    higher = librosa.effects.pitch_shift(vocals, sr=rate_hz, n_steps=TRITONE)
    return Heard(vocals=higher, truth=truth, moved=_transposed(truth, TRITONE))
  raise InputError(f"condition {condition!r} is not known; choose one of {', '.join(CONDITIONS)}")


def score(heard: Heard, instrumental: np.ndarray) -> dict[str, float]:
  """All metrics against the truth that was moved along, and `unmoved_…` against the other.

  `instrumental` is float `[samples]` at `musical.RATE_HZ`.
  """
  moved = measure(instrumental, heard.moved)
  unmoved = moved if heard.moved is heard.truth else measure(instrumental, heard.truth)
  return {**moved, **{f"unmoved_{name}": value for name, value in unmoved.items()}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """That one thing is better than another, over songs: `p` is one-sided, by permuting pairs, corrected by
  Holm.
  """

  claim: str
  better: float
  worse: float
  p: float

  @property
  def holds(self) -> bool:
    return self.p < LEVEL


def compare(
  scores: Mapping[str, Sequence[Mapping[str, float]]],
  seed: int = 0,
  tracks: Sequence[Hashable] | None = None,
) -> list[Comparison]:
  """What music demands of a model that listens.

  Args:
    scores: condition → `score` of each song, in the same order; conditions that are absent are not compared.
    tracks: of each song: clips of one count as one. None: all are songs of their own.

  Raises:
    InputError: no song, or conditions of different numbers of songs.
  """
  claims = {}
  for wrong in ("shuffled", "silence", "noise"):
    for metric in ("chord_24", "beat_f"):
      claims[f"{metric} with the right vocals exceeds that with {wrong}"] = (
        ("right", metric),
        (wrong, metric),
      )
  claims["beats half a beat later follow vocals half a beat later"] = (
    ("half_beat", "beat_f"),
    ("half_beat", "unmoved_beat_f"),
  )
  claims["chords a tritone higher follow vocals a tritone higher"] = (
    ("tritone", "chord_24"),
    ("tritone", "unmoved_chord_24"),
  )
  pairs = {
    claim: [[song[metric] for song in scores[condition]] for condition, metric in sides]
    for claim, sides in claims.items()
    if all(condition in scores for condition, _ in sides)
  }
  found = {
    claim: significance.paired_permutation(better, worse, seed, groups=tracks)
    for claim, (better, worse) in pairs.items()
  }
  corrected = significance.holm(found)
  return [
    Comparison(claim=claim, better=float(np.mean(better)), worse=float(np.mean(worse)), p=corrected[claim])
    for claim, (better, worse) in pairs.items()
  ]


def half_a_beat_later(truth: Truth, end_seconds: float) -> Truth:
  """What a song's accompaniment should fit when its vocals are half a beat late, up to an end.

  Raises:
    InputError: fewer than two beats are left.
  """
  seconds = _half_a_beat(truth)
  kept = sum(beat + seconds < end_seconds for beat in truth.beats_seconds)
  beats = tuple(beat + seconds for beat in truth.beats_seconds[:kept])
  return dataclasses.replace(truth, beats_seconds=beats, chords=truth.chords[:kept])


def _half_a_beat(truth: Truth) -> float:
  return float(np.median(np.diff(truth.beats_seconds))) / 2


def _transposed(truth: Truth, semitones: int) -> Truth:
  return dataclasses.replace(
    truth,
    chords=tuple(chord and _up(chord, semitones) for chord in truth.chords),
    key=truth.key and _up(truth.key, semitones),
  )


def _up(triad: str, semitones: int) -> str:
  mode, root = divmod(TRIADS.index(triad), 12)
  return TRIADS[12 * mode + (root + semitones) % 12]
