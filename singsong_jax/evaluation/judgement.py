"""A model beside floors, baselines and ceilings, on songs whose truth is known (SingSong §5.1 and ours).

Every row is an instrumental for each song, and what `musical.measure` makes of it:

    true accompaniment                the ceiling
    another song's accompaniment, white noise, the vocals themselves    floors
    Random, Retrieval                 the paper's baselines
    Retrieval, oracle key and tempo   the best of what takes notice of nothing else
    model, …                          with the vocals of each condition of `vocal_use`, and of each other set
"""

import collections
import dataclasses
import functools
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from singsong_jax.audio.resampling import resample
from singsong_jax.audio.tracks import ArrayTrack
from singsong_jax.errors import InputError
from singsong_jax.evaluation import vocal_use
from singsong_jax.evaluation.making import Accompany, Maker, Vocals
from singsong_jax.evaluation.musical import RATE_HZ, Truth, measure
from singsong_jax.evaluation.retrieval import Ears, Library, Query, Retrieved
from singsong_jax.evaluation.significance import number_groups
from singsong_jax.evaluation.songs import Song
from singsong_jax.inference.vocals import check_vocals

Scores = list[dict[str, float]]  # of each song
MODEL = "model"
_REFERENCES = ("true accompaniment", "another song's", "vocals themselves", "white noise")


class TrainedJudge(Protocol):
  """One more metric, by a network that somebody trained. `name` is what its column is called."""

  name: str

  def __call__(self, instrumental: np.ndarray, vocals: np.ndarray, truth: Truth) -> float:
    """Of an accompaniment and the vocals it is for, float `[samples]` at `RATE_HZ`."""
    ...

  def describe(self) -> dict[str, Any]:
    """JSON: which weights."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
  """Songs, and where what is made of them is kept.

  Attributes:
    songs: two or more, not all of them clips of one.
    trained: further metrics.

  Raises:
    InputError: a single song, which none could be shuffled with.
  """

  songs: Sequence[Song]
  maker: Maker
  trained: Sequence[TrainedJudge] = ()

  def __post_init__(self):
    if len({*self.tracks}) < 2:
      raise InputError("one song is too few to judge by: its vocals cannot be shuffled with another's")

  @functools.cached_property
  def tracks(self) -> list[str]:
    """Of each song: clips of one are no evidence of their own."""
    return [song.track for song in self.songs]

  @functools.cached_property
  def truths(self) -> list[Truth]:
    return [song.truth() for song in self.songs]

  def references(self) -> dict[str, Scores]:
    """Floors and the ceiling."""
    rows: dict[str, Scores] = {name: [] for name in _REFERENCES}
    for i, truth in enumerate(_bar(self.truths, "references")):
      true, another = (self.songs[j].read_instrumental() for j in (i, self._other(i)))
      noise = self._rng("noise", i).normal(0, 0.1, len(true)).astype(np.float32)
      waveforms = (true, another, self._sung(i), noise)
      for row, waveform in zip(rows.values(), waveforms):
        row.append(self._measured(waveform, i, truth))
    return rows

  def baselines(self, library: Library, ears: Ears) -> dict[str, Scores]:
    """Random and Retrieval, the latter with an oracle, too."""

    def found(name: str, i: int) -> Retrieved:
      song, rng = self.songs[i], self._rng(name, i)
      seconds = len(song.read_instrumental()) / RATE_HZ
      if name == "Random":
        return library.random(seconds, rng)
      if name == "Retrieval":
        return library.retrieve(Query.heard(song, ears, seconds), rng)
      return library.retrieve(Query.oracle(self.truths[i], seconds), rng, oracle=True)

    rows = {}
    for name in ("Random", "Retrieval", "Retrieval, oracle key and tempo"):
      rows[name] = [
        self._measured(
          self.maker.kept(name, self.songs[i], RATE_HZ, lambda i=i, name=name: found(name, i).waveform),
          i,
          truth,
        )
        for i, truth in enumerate(_bar(self.truths, name))
      ]
    return rows

  def conditions(
    self, accompany: Accompany, conditions: Iterable[str] = vocal_use.CONDITIONS
  ) -> dict[str, Scores]:
    """The model's scores in each condition of `vocal_use`."""
    rows: dict[str, Scores] = {}
    for condition in conditions:
      rows[condition] = []
      for i, truth in enumerate(_bar(self.truths, f"{MODEL}, {condition}")):
        vocals, rate_hz = self.songs[i].read_vocals()
        other, other_hz = self.songs[self._other(i)].read_vocals()
        other = resample(other, other_hz, rate_hz)
        heard = vocal_use.prepare(condition, vocals, other, rate_hz, truth, self._rng(condition, i))
        instrumental = self._made(f"{MODEL}, {condition}", i, heard.vocals, rate_hz, accompany)
        scores = vocal_use.score(heard, instrumental)
        if self.trained:
          sung = self._sung(i) if heard.moved is truth else resample(heard.vocals, rate_hz, RATE_HZ)
          scores |= self._trained(instrumental, sung, heard.moved)
        rows[condition].append(scores)
    return rows

  def other_vocals(self, accompany: Accompany, name: str, vocals: Vocals) -> Scores:
    """The model's scores with other recordings of the same vocals: separated ones, say."""
    row = []
    for i, truth in enumerate(_bar(self.truths, f"{MODEL}, {name}")):
      heard, rate_hz = vocals(self.songs[i], self.maker.seed_of(i))
      row.append(self._measured(self._made(f"{MODEL}, {name}", i, heard, rate_hz, accompany), i, truth))
    return row

  def _measured(self, instrumental: np.ndarray, i: int, truth: Truth) -> dict[str, float]:
    scores = measure(instrumental, truth)
    return scores | self._trained(instrumental, self._sung(i), truth) if self.trained else scores

  def _trained(self, instrumental: np.ndarray, vocals: np.ndarray, truth: Truth) -> dict[str, float]:
    return {metric.name: metric(instrumental, vocals, truth) for metric in self.trained}

  def _sung(self, i: int) -> np.ndarray:
    vocals, rate_hz = self.songs[i].read_vocals()
    return resample(vocals, rate_hz, RATE_HZ)

  def _made(self, row: str, i: int, vocals: np.ndarray, rate_hz: int, accompany: Accompany) -> np.ndarray:
    seed = self.maker.seed_of(i)
    waveform = self.maker.kept(row, self.songs[i], rate_hz, lambda: accompany(vocals, rate_hz, seed))
    return resample(waveform, rate_hz, RATE_HZ)

  def _other(self, i: int) -> int:
    """One of another track, which has the same key and tempo by chance alone; spread over all."""
    number, largest = len(self.songs), max(collections.Counter(self.tracks).values())
    places = (place % number for place in range(i + largest, i + largest + number))
    return next(place for place in places if self.tracks[place] != self.tracks[i])

  def _rng(self, name: str, i: int) -> np.random.Generator:
    return np.random.default_rng([self.maker.seed, i, zlib.crc32(name.encode())])


def means(rows: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
  """Row → metric → mean over songs; of lags, the mean size. NaN only where every song's is."""
  return {
    name: {
      metric: _mean([abs(song[metric]) if "lag" in metric else song[metric] for song in scores])
      for metric in metrics_of(scores)
    }
    for name, scores in rows.items()
  }


def judgeable(songs: Sequence[Song]) -> tuple[list[Song], list[str]]:
  """Those whose truth is known or can be heard and that every condition can be made of, and why the others
  are left out.
  """
  kept, left_out = [], []
  for song in _bar(songs, "truths"):
    try:
      _check(song)
      kept.append(song)
    except InputError as error:
      left_out.append(str(error))
  return kept, left_out


def _check(song: Song) -> None:
  truth = song.truth()
  vocals, rate_hz = song.read_vocals()
  check_vocals(ArrayTrack(vocals[None], rate_hz, str(song.vocals)))
  try:
    if not any(truth.chords):
      raise InputError("no chord is heard in it")
    vocal_use.half_a_beat_later(truth, len(vocals) / rate_hz)
  except InputError as error:
    raise InputError(f"{song.annotation or song.instrumental}: {error}") from error


def metrics_of(scores: Scores) -> list[str]:
  """What was measured of every song, but for what is measured against the truth that was not moved."""
  return [name for name in scores[0] if not name.startswith("unmoved_")]


def interval(
  values: Sequence[float], seed: int = 0, draws: int = 2_000, groups: Sequence[Hashable] | None = None
) -> tuple[float, float]:
  """95 % of the means of songs that are drawn with replacement; with all of their clips, where `groups` says
  of each value which song it is of.
  """
  numbers = number_groups(range(len(values)) if groups is None else groups)
  sums, counts = np.bincount(numbers, weights=np.asarray(values, float)), np.bincount(numbers)
  picks = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
  low, high = np.quantile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), (0.025, 0.975))
  return float(low), float(high)


def _mean(values: Sequence[float]) -> float:
  known = [value for value in values if np.isfinite(value)]
  return float(np.mean(known)) if known else float("nan")


def _bar(items: Sequence, what: str) -> Iterator:
  return tqdm(items, desc=what, unit="song", mininterval=1)
