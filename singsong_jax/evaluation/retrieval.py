"""The paper's baselines: an instrumental at random, and one that fits by key and tempo (SingSong §5.1, B.1).

Retrieval hears the key of the query's vocals, as probabilities of 24 keys, and takes the library's track
whose mixture is nearest in Euclidean distance. Its instrumental is stretched to the tempo that is heard in
the query's
*true* instrumental, which no accompanist would know. With the `oracle` of true key and tempo it is a ceiling
for whatever takes notice of nothing else. Beats are not aligned.

The paper does not say which ten seconds of the track are taken: here they begin at random, where they are no
quieter than the filter of training data demands (§4.2).
"""

import dataclasses
from collections.abc import Iterable
from typing import Protocol

import librosa
import numpy as np

from singsong_jax.audio.filtering import FilterSettings
from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.resampling import resample
from singsong_jax.errors import InputError
from singsong_jax.evaluation import musical
from singsong_jax.evaluation.musical import RATE_HZ
from singsong_jax.evaluation.songs import Song

MAX_RATIO = 2.0  # of tempi, either way: more would be heard (B.1)
_TRIES = 20  # starts to try before a quiet one is taken


class Ears(Protocol):
  """What is heard in a waveform, float `[samples]` at `musical.RATE_HZ`."""

  def key_probabilities(self, waveform: np.ndarray) -> np.ndarray:
    """`[24]`, summing to 1, in the order of `musical.TRIADS`."""

  def tempo_bpm(self, waveform: np.ndarray) -> float:
    """0 where there is none."""


class Librosa:
  """Templates on chroma, and librosa's beat tracker."""

  def key_probabilities(self, waveform: np.ndarray) -> np.ndarray:
    return musical.key_probabilities(waveform)

  def tempo_bpm(self, waveform: np.ndarray) -> float:
    return musical.hear_beats(waveform)[1]


class Madmom:
  """The paper's: a CNN for keys (Korzeniowski and Widmer 2018), an RNN and comb filters for tempo (Böck et
  al. 2015).

  Its weights are CC BY-NC-SA, and its release of 2018 does not build with current Pythons: it is used where
  it is installed.

  Raises:
    InputError: it is not.
  """

  _RATE_HZ = 44_100
  # Major, then minor, from A upwards, as its CNN puts them out; ours begin with C.
  _TONICS = (9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8)

  def __init__(self):
    try:
      from madmom.audio.signal import Signal
      from madmom.features.beats import RNNBeatProcessor
      from madmom.features.key import CNNKeyRecognitionProcessor
      from madmom.features.tempo import TempoEstimationProcessor
    except ImportError as error:
      raise InputError(f"--ears=madmom: madmom is not installed here ({error})") from error
    self._signal = Signal
    self._key, self._beats = CNNKeyRecognitionProcessor(), RNNBeatProcessor()
    self._tempo = TempoEstimationProcessor(fps=100)

  def key_probabilities(self, waveform: np.ndarray) -> np.ndarray:
    found = np.asarray(self._key(self._heard(waveform)), float).reshape(2, 12)
    ordered = np.zeros((2, 12))
    ordered[:, self._TONICS] = found
    return ordered.ravel()

  def tempo_bpm(self, waveform: np.ndarray) -> float:
    tempi = self._tempo(self._beats(self._heard(waveform)))
    return float(tempi[0][0]) if len(tempi) else 0.0

  def _heard(self, waveform: np.ndarray):
    return self._signal(resample(waveform, RATE_HZ, self._RATE_HZ), sample_rate=self._RATE_HZ, num_channels=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
  """What an instrumental is looked for by.

  Attributes:
    key: probabilities of the 24 keys, `[24]`.
    tempo_bpm: 0 leaves the track's.
    seconds: length wanted.
  """

  key: np.ndarray
  tempo_bpm: float
  seconds: float

  @classmethod
  def heard(cls, song: Song, ears: Ears, seconds: float) -> "Query":
    """The paper's: key of the vocals, tempo of the true instrumental."""
    vocals, rate_hz = song.read_vocals()
    return cls(
      key=ears.key_probabilities(resample(vocals, rate_hz, RATE_HZ)),
      tempo_bpm=ears.tempo_bpm(song.read_instrumental()),
      seconds=seconds,
    )

  @classmethod
  def oracle(cls, truth: musical.Truth, seconds: float) -> "Query":
    """Of the true key and tempo."""
    return cls(key=_one_hot(truth.key), tempo_bpm=truth.tempo_bpm, seconds=seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """A track that may be retrieved, as it is heard and as it is."""

  song: Song
  key: np.ndarray
  tempo_bpm: float
  truth: musical.Truth


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieved:
  """A found instrumental: `waveform` float32 `[samples]` at `musical.RATE_HZ`, of track `name`, stretched by
  `ratio` (above 1: faster)."""

  waveform: np.ndarray
  name: str
  ratio: float


class Library:
  """Tracks to retrieve from: MUSDB18-dev in the paper.

  Retrieval leaves out those shorter than `seconds` × `MAX_RATIO`, as in the paper, and Random those shorter
  than `seconds`.

  Raises:
    InputError: none is long enough to be retrieved, or nothing can be heard in one.
  """

  def __init__(self, songs: Iterable[Song], ears: Ears, seconds: float):
    self._entries: list[Entry] = []
    self._lengths: dict[Song, int] = {}  # in samples, of what Random takes from
    for song in songs:
      instrumental = song.read_instrumental()
      if len(instrumental) >= seconds * RATE_HZ:
        self._lengths[song] = len(instrumental)
      if len(instrumental) < MAX_RATIO * seconds * RATE_HZ:
        continue
      vocals, rate_hz = song.read_vocals()
      voice = resample(vocals, rate_hz, RATE_HZ)
      length = min(len(voice), len(instrumental))
      mix = voice[:length] + instrumental[:length]
      self._entries.append(
        Entry(
          song=song,
          key=ears.key_probabilities(mix),
          tempo_bpm=ears.tempo_bpm(instrumental),
          truth=song.truth(),
        )
      )
    if not self._entries:
      raise InputError(f"retrieval needs tracks of {MAX_RATIO * seconds:g} s; all are shorter")

  def random(self, seconds: float, rng: np.random.Generator) -> Retrieved:
    """The baseline Random: any clip of any track, of long ones more often than of short ones."""
    ends = np.cumsum([*self._lengths.values()])
    track = np.searchsorted(ends, rng.integers(ends[-1]), side="right")
    return _cut([*self._lengths][track], seconds, 1.0, rng)

  def retrieve(self, query: Query, rng: np.random.Generator, oracle: bool = False) -> Retrieved:
    """The baseline Retrieval; with `oracle` by the tracks' true keys and tempi."""
    keys = [_one_hot(entry.truth.key) if oracle else entry.key for entry in self._entries]
    tempi = [entry.truth.tempo_bpm if oracle else entry.tempo_bpm for entry in self._entries]
    distances = np.linalg.norm(np.stack(keys) - query.key, axis=1)
    nearest = np.flatnonzero(distances <= distances.min() + 1e-12)
    # An oracle has many tracks of the right key: the least stretched of them.
    ratios = [fold_ratio(query.tempo_bpm, tempi[i]) for i in nearest]
    chosen = int(np.argmin(np.abs(np.log(ratios)))) if oracle else 0
    return _cut(self._entries[nearest[chosen]].song, query.seconds, ratios[chosen], rng)


def fold_ratio(wanted_bpm: float, found_bpm: float) -> float:
  """By how much to speed up, brought into ½ … 2 by halving and doubling (B.1); 1 where a tempo is unknown.

  Raises:
    InputError: a tempo that is negative or no number.
  """
  if not (np.isfinite([wanted_bpm, found_bpm]).all() and min(wanted_bpm, found_bpm) >= 0):
    raise InputError(f"tempi of {wanted_bpm} and {found_bpm} beats per minute are not possible")
  if not wanted_bpm or not found_bpm:
    return 1.0
  ratio = wanted_bpm / found_bpm
  while ratio < 1 / MAX_RATIO:
    ratio *= 2
  while ratio > MAX_RATIO:
    ratio /= 2
  return ratio


def _cut(song: Song, seconds: float, ratio: float, rng: np.random.Generator) -> Retrieved:
  instrumental = song.read_instrumental()
  length = min(len(instrumental), int(np.ceil(seconds * ratio * RATE_HZ)) + 1)
  least_db = FilterSettings().min_instrumental_db
  for _ in range(_TRIES):
    start = int(rng.integers(len(instrumental) - length + 1))
    piece = instrumental[start : start + length]
    if peak_rms_db(piece, RATE_HZ) >= least_db:
      break
  if ratio != 1:
    piece = librosa.effects.time_stretch(piece, rate=ratio)
  piece = piece / max(1.0, float(np.abs(piece).max(initial=0.0)))  # a file of it must not clip
  return Retrieved(waveform=piece[: round(seconds * RATE_HZ)], name=song.name, ratio=ratio)


def _one_hot(key: str) -> np.ndarray:
  return np.array([float(key == other) for other in musical.TRIADS])
