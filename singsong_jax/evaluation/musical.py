"""Does an accompaniment fit? Beats, chords, key and tempo, measured without a trained judge.

An instrumental is heard as sound, whatever made it, and held against the truth: a demo song's annotation, or
what the same measurements hear in the true accompaniment where there is none.

    chord_24            share of the beats whose best of 24 major and minor triads is the true one (chance
    1/24) chord_tone_energy   share of the chroma on the true triad's pitch classes (chance 1/4)
    beat_f              F-measure of beats within 70 ms (mir_eval)
    tempo, tempo_octave within 4 % of the true one; or of its half or double
    key_exact, key_mirex   the right key; MIREX's weights: 1, fifth 0.5, relative 0.3, parallel 0.2
    onset_lag_seconds   how much later its onsets are than the true beats, at most half a beat; nearer 0 is
    better
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import librosa
import mir_eval
import numpy as np

from singsong_jax.errors import InputError

RATE_HZ = 16_000
METRICS = (
  "chord_24",
  "chord_tone_energy",
  "beat_f",
  "tempo",
  "tempo_octave",
  "key_exact",
  "key_mirex",
  "onset_lag_seconds",
)
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
TRIADS = tuple(f"{pitch}:{mode}" for mode in ("maj", "min") for pitch in PITCHES)
_TRIAD_TONES = np.array(
  [
    np.isin(np.arange(12), [root, (root + third) % 12, (root + 7) % 12])
    for third in (4, 3)
    for root in range(12)
  ],
  float,
)  # [24, 12]
# Krumhansl and Kessler 1982: how well each pitch class fits a key whose tonic is the first.
_KEY_PROFILES = {
  "maj": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
  "min": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
_CHROMA_WINDOW, _CHROMA_HOP = 4096, 512
_CHROMA_HZ = 60, 2100
_ONSET_HOP = 256
_LEAST_BEATS = 2
_SILENT = 1e-8  # of the chroma: nothing is played


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
  """What an accompaniment should fit.

  Attributes:
    beats_seconds: at least two, rising.
    chords: of each beat, one of `TRIADS`; None where nothing sounds.
    key: one of `TRIADS`, read as a key; None where no pitch sounds.
    tempo_bpm: beats per minute.

  Raises:
    InputError: it is not so.
  """

  beats_seconds: tuple[float, ...]
  chords: tuple[str | None, ...]
  key: str | None
  tempo_bpm: float

  def __post_init__(self):
    if len(self.beats_seconds) < _LEAST_BEATS or len(self.chords) != len(self.beats_seconds):
      raise InputError(
        f"{len(self.beats_seconds)} beats with {len(self.chords)} chords: at least {_LEAST_BEATS} beats, and "
        "as many chords, are needed"
      )
    if not all(_is_number(value) for value in (*self.beats_seconds, self.tempo_bpm)) or self.tempo_bpm < 0:
      raise InputError(f"beats or a tempo that are no numbers: {self.beats_seconds}, {self.tempo_bpm!r}")
    if np.any(np.diff(self.beats_seconds) <= 0):
      raise InputError(f"beats that do not rise: {self.beats_seconds}")
    if unknown := {self.key, *self.chords} - {None, *TRIADS}:
      raise InputError(
        f"{sorted(map(str, unknown))} are not known; write them as {TRIADS[1]} or {TRIADS[13]}"
      )

  @classmethod
  def from_annotation(cls, annotation: Mapping[str, Any]) -> Self:
    """Of a demo song (docs/demo_corpus.md)."""
    return cls(
      beats_seconds=tuple(annotation["beats_seconds"]),
      chords=tuple(annotation["chords"]),
      key=annotation["key"],
      tempo_bpm=annotation["tempo_bpm"],
    )

  @classmethod
  def heard_in(cls, instrumental: np.ndarray) -> Self:
    """As the measurements hear a true accompaniment, float `[samples]` at `RATE_HZ`.

    Raises:
      InputError: no beats are heard in it.
    """
    beats, tempo = hear_beats(instrumental)
    if len(beats) < _LEAST_BEATS:
      raise InputError(f"{len(beats)} beats are heard in it; {_LEAST_BEATS} are needed")
    chroma = beat_chroma(instrumental, beats)
    return cls(
      beats_seconds=tuple(beats.tolist()),
      chords=tuple(map(hear_chord, chroma)),
      key=hear_key(instrumental),
      tempo_bpm=tempo,
    )


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and math.isfinite(value)


def measure(instrumental: np.ndarray, truth: Truth) -> dict[str, float]:
  """`METRICS` of an accompaniment, float `[samples]` at `RATE_HZ`.

  Beats where truth has no chord count nothing; those where nothing is played are wrong.
  """
  beats, tempo = hear_beats(instrumental)
  chords = [
    (hear_chord(chroma) == chord, _share(chroma, chord))
    for chroma, chord in zip(beat_chroma(instrumental, truth.beats_seconds), truth.chords)
    if chord is not None
  ]
  right, energy = np.mean(chords, axis=0) if chords else (np.nan, np.nan)
  key = hear_key(instrumental)
  return {
    "chord_24": float(right),
    "chord_tone_energy": float(energy),
    "beat_f": beat_f(np.array(truth.beats_seconds), beats),
    "tempo": float(_near(tempo, truth.tempo_bpm)),
    "tempo_octave": float(any(_near(tempo, factor * truth.tempo_bpm) for factor in (0.5, 1, 2))),
    "key_exact": float(key == truth.key) if truth.key else np.nan,
    "key_mirex": _mirex(truth.key, key),
    "onset_lag_seconds": onset_lag_seconds(instrumental, truth.beats_seconds),
  }


def hear_beats(waveform: np.ndarray) -> tuple[np.ndarray, float]:
  """Times of beats in seconds, and beats per minute; none and 0 where there are no onsets. librosa's tracker
  (Ellis 2007)."""
  envelope = _onset_strength(waveform)
  if not envelope.any():
    return np.zeros(0), 0.0
  tempo, beats = librosa.beat.beat_track(
    onset_envelope=envelope, sr=RATE_HZ, hop_length=_ONSET_HOP, units="time", trim=False
  )
  return beats, float(np.atleast_1d(tempo)[0])


def beat_f(true: np.ndarray, heard: np.ndarray) -> float:
  """F-measure of beats, in seconds, within 70 ms."""
  return float(mir_eval.beat.f_measure(true, heard)) if len(heard) else 0.0  # it warns of empty lists


def beat_chroma(waveform: np.ndarray, beats_seconds: Sequence[float] | np.ndarray) -> np.ndarray:
  """Median chroma between beats, `[beats, 12]`; the last beat lasts as long as the one before it."""
  chroma = chromagram(waveform)
  beats = np.asarray(beats_seconds, float)
  edges = np.append(beats, 2 * beats[-1] - beats[-2]) * RATE_HZ / _CHROMA_HOP
  frames = np.clip(np.round(edges).astype(int), 0, chroma.shape[1] - 1)
  return np.stack([np.median(chroma[:, a : max(b, a + 1)], axis=1) for a, b in itertools.pairwise(frames)])


def chromagram(waveform: np.ndarray) -> np.ndarray:
  """Root of the power in each pitch class, 60 … 2100 Hz: `[12, frames]`."""
  magnitude = np.abs(librosa.stft(waveform, n_fft=_CHROMA_WINDOW, hop_length=_CHROMA_HOP))
  return _chroma_filters() @ magnitude


def hear_chord(chroma: np.ndarray) -> str | None:
  """The triad whose centred template is nearest in angle to chroma `[12]`; None for silence."""
  if chroma.sum() < _SILENT:
    return None
  templates = _TRIAD_TONES - _TRIAD_TONES.mean(axis=1, keepdims=True)
  return TRIADS[int(np.argmax(templates @ (chroma - chroma.mean())))]


def key_probabilities(waveform: np.ndarray) -> np.ndarray:
  """Of the 24 keys, in the order of `TRIADS`: softmax of 12 × the correlation of the mean chroma with each
  profile. Uniform for silence."""
  chroma = chromagram(waveform).mean(axis=1)
  if chroma.sum() < _SILENT:
    return np.full(24, 1 / 24)
  scores = 12 * _key_templates() @ _unit(chroma)
  powers = np.exp(scores - scores.max())
  return powers / powers.sum()


def hear_key(waveform: np.ndarray) -> str | None:
  """The likeliest key; None for silence."""
  probabilities = key_probabilities(waveform)
  return TRIADS[int(np.argmax(probabilities))] if np.ptp(probabilities) else None


def onset_lag_seconds(waveform: np.ndarray, beats_seconds: Sequence[float]) -> float:
  """By how much the onsets are behind the beats, −½ … ½ beat: where both correlate best. NaN where nothing
  begins.
  """
  envelope = _onset_strength(waveform)
  if not envelope.any():
    return np.nan
  beats = np.asarray(beats_seconds) * RATE_HZ / _ONSET_HOP  # in frames
  reach = int(np.median(np.diff(beats)) / 2)
  lags = np.arange(-reach, reach + 1)
  places = np.round(beats[:, None] + lags).astype(int)  # [beats, lags]
  inside = (places >= 0) & (places < len(envelope))
  strength = np.where(inside, envelope[np.clip(places, 0, len(envelope) - 1)], 0).sum(axis=0)
  return float(lags[int(np.argmax(strength))] * _ONSET_HOP / RATE_HZ)


def _onset_strength(waveform: np.ndarray) -> np.ndarray:
  return librosa.onset.onset_strength(y=waveform, sr=RATE_HZ, hop_length=_ONSET_HOP)


def _near(tempo: float, true: float) -> bool:
  return abs(tempo - true) <= 0.04 * true


def _share(chroma: np.ndarray, chord: str) -> float:
  total = chroma.sum()
  return float(chroma @ _TRIAD_TONES[TRIADS.index(chord)] / total) if total > _SILENT else 0.0


def _mirex(true: str | None, heard: str | None) -> float:
  if true is None:
    return np.nan
  if heard is None:
    return 0.0
  named = [f"{key.split(':')[0]} {'major' if key.endswith('maj') else 'minor'}" for key in (true, heard)]
  return float(mir_eval.key.weighted_score(*named))


@functools.cache
def _chroma_filters() -> np.ndarray:
  """`[12, bins]`: librosa's, within 60 … 2100 Hz, and no bin counted by its width in octaves."""
  filters = librosa.filters.chroma(sr=RATE_HZ, n_fft=_CHROMA_WINDOW, tuning=0.0, octwidth=None)
  hz = librosa.fft_frequencies(sr=RATE_HZ, n_fft=_CHROMA_WINDOW)
  return np.where((hz >= _CHROMA_HZ[0]) & (hz <= _CHROMA_HZ[1]), filters, 0)


@functools.cache
def _key_templates() -> np.ndarray:
  """Unit vectors, centred: `[24, 12]`, in the order of `TRIADS`."""
  return np.stack(
    [_unit(np.roll(_KEY_PROFILES[mode], tonic)) for mode in ("maj", "min") for tonic in range(12)]
  )


def _unit(chroma) -> np.ndarray:
  centred = np.asarray(chroma, float) - np.mean(chroma)
  return centred / max(np.linalg.norm(centred), 1e-12)
