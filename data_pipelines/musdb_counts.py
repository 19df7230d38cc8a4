"""How many clips of MUSDB18 have vocals, by every meaning that "peak RMS above −25 dB" may have (SingSong
§4.1).
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable

import numpy as np

from data_pipelines.load import stem_channels
from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song
from singsong_jax.audio.filtering import FilterSettings, rejection_reason
from singsong_jax.audio.levels import peak_rms_db

CLIP_SECONDS = 10
PAPER = {"train": 1232, "test": 778}
FASTSAG_TEST = 348
WINDOW_SECONDS = (0.05, 0.1, 0.4, 1.0, float(CLIP_SECONDS))
REFERENCES = {"full scale": 0.0, "full-scale sine": 20 * math.log10(math.sqrt(2))}  # dB to add
CHANNELS = ("mono", "loudest channel")
MIN_VOCALS_DB = -25.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
  """What "peak RMS amplitude of the vocals" may mean.

  Attributes:
    window_seconds: over which RMS is taken; the clip's length for one RMS of the whole.
    reference: a key of `REFERENCES`: what 0 dB is.
    channels: one of `CHANNELS`: RMS of the mean of the channels, or of the loudest one.
  """

  window_seconds: float
  reference: str
  channels: str

  def level_db(self, vocals: np.ndarray) -> float:
    """Of a clip: float `[channels, samples]` at 44.1 kHz."""
    heard = vocals if self.channels == "loudest channel" else vocals.mean(axis=0, keepdims=True)
    hop = self.window_seconds / 2
    peaks = [peak_rms_db(channel, SONG_RATE_HZ, self.window_seconds, hop) for channel in heard]
    return max(peaks) + REFERENCES[self.reference]


DEFINITIONS = [
  Definition(window_seconds=seconds, reference=reference, channels=channels)
  for seconds, reference, channels in itertools.product(WINDOW_SECONDS, REFERENCES, CHANNELS)
]


def count_clips(
  songs: Iterable[Song],
) -> tuple[collections.Counter, collections.Counter, collections.Counter]:
  """Clips of each subset; those that each definition keeps, by `(definition, subset)`; those that FastSAG
  keeps.
  """
  totals: collections.Counter = collections.Counter()
  kept: collections.Counter = collections.Counter()
  fastsag: collections.Counter = collections.Counter()
  rule = FilterSettings(rule="fastsag")
  for song in songs:
    subset = song.id.partition("/")[0]
    for vocals, instrumental in stem_channels(song, CLIP_SECONDS):
      totals[subset] += 1
      for definition in DEFINITIONS:
        kept[definition, subset] += definition.level_db(vocals) > MIN_VOCALS_DB
      monos = vocals.mean(axis=0), instrumental.mean(axis=0)
      fastsag[subset] += rejection_reason(*monos, SONG_RATE_HZ, rule) is None
  return totals, kept, fastsag


def table(
  totals: collections.Counter, kept: collections.Counter, fastsag: collections.Counter
) -> list[tuple[str, ...]]:
  """Header and a row for each definition, the nearest to the paper first; FastSAG's rule last."""

  def distance(definition: Definition) -> int:
    return sum(abs(kept[definition, subset] - paper) for subset, paper in PAPER.items())

  rows: list[tuple] = [("window s", "0 dB is", "channels", "train N", "kept", "test N", "kept", "")]
  for definition in sorted(DEFINITIONS, key=distance):
    counts = [value for subset in PAPER for value in (totals[subset], kept[definition, subset])]
    verdict = "= the paper's" if not distance(definition) else f"off by {distance(definition)}"
    rows.append(
      (f"{definition.window_seconds:g}", definition.reference, definition.channels, *counts, verdict)
    )
  verdict = "= FastSAG's" if fastsag["test"] == FASTSAG_TEST else f"FastSAG: {FASTSAG_TEST}"
  counts = [value for subset in PAPER for value in (totals[subset], fastsag[subset])]
  rows.append((f"{CLIP_SECONDS}", "e-based", "mono", *counts, verdict))
  return rows
