"""What became of each song and of each shard: small JSON files on disk, so that nothing is lost unseen.

Beam's own counters are shown by some runners and not trusted: one that drops elements drops their counts
too. A worker writes a report after the file it speaks of; the main process misses any that is not there.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np

from singsong_jax import storage
from singsong_jax.audio.code_usage import count_codes
from singsong_jax.errors import InputError

SILENCE_DB = -100
EXCLUDED = "exclude"  # the stage of songs that were left out on purpose


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeadLetter:
  """Something that could not be used.

  Attributes:
    song: its id.
    clip: the clip's id, or None when the whole song is meant.
    stage: where it failed.
    reason: why, for people.
  """

  song: str
  clip: str | None
  stage: str
  reason: str


@dataclasses.dataclass(kw_only=True)
class Report:
  """Counts of clips; in = kept + Σ filtered + dead letters that name a clip.

  Attributes:
    clips_in: clips that came in.
    kept: clips written.
    on_disk: clips found in the file after writing it.
    filtered: reason → clips left out on purpose.
    dead_letters: songs and clips that failed, and songs that were excluded.
    seconds: of songs that could be read.
    levels: stem → peak RMS in whole dB, rounded down → how many of the clips that came in.
    codes: 'semantic', 'acoustic' → how often each code occurs in what was kept, `[levels][codes]`.
  """

  clips_in: int = 0
  kept: int = 0
  on_disk: int = 0
  filtered: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  dead_letters: list[DeadLetter] = dataclasses.field(default_factory=list)
  seconds: float = 0.0
  levels: dict[str, collections.Counter] = dataclasses.field(default_factory=dict)
  codes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def dead_clips(self) -> int:
    return sum(letter.clip is not None for letter in self.dead_letters)

  @property
  def excluded_songs(self) -> int:
    return sum(letter.stage == EXCLUDED for letter in self.dead_letters)

  @property
  def dead_songs(self) -> int:
    """Songs that could not be used, the excluded ones apart."""
    return sum(letter.clip is None for letter in self.dead_letters) - self.excluded_songs

  def fail(self, song: str, clip: str | None, stage: str, error: Exception) -> None:
    """Notes a failure. An unforeseen kind of error is named, as its message alone may say little."""
    reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    self.dead_letters.append(DeadLetter(song=song, clip=clip, stage=stage, reason=reason))

  def leave_out(self, song: str, stage: str, reason: str) -> None:
    """Notes a song that was left out on purpose."""
    self.dead_letters.append(DeadLetter(song=song, clip=None, stage=stage, reason=reason))

  def note_level(self, stem: str, level_db: float) -> None:
    """Counts a clip's level; silence at `SILENCE_DB`."""
    self.levels.setdefault(stem, collections.Counter())[math.floor(max(level_db, SILENCE_DB))] += 1

  def note_codes(self, name: str, codes: np.ndarray, num_codes: int) -> None:
    """Counts codes: int `[..., levels]`, 0 … num_codes − 1."""
    self._add_codes(name, count_codes(codes, num_codes))

  def _add_codes(self, name: str, counts: np.ndarray) -> None:
    self.codes[name] = self.codes.get(name, 0) + counts

  def check(self, what: str) -> None:
    """Raises RuntimeError unless every clip is accounted for exactly once, on disk too."""
    if self.clips_in != self.kept + self.filtered.total() + self.dead_clips or self.kept != self.on_disk:
      raise RuntimeError(f"{what}: clips are unaccounted for: {self}")

  def write(self, path: str) -> None:
    """Writes the report in one rename."""
    # Not dataclasses.asdict, which makes tuples of a Counter's keys.
    letters = [vars(letter) for letter in self.dead_letters]
    codes = {name: counts.tolist() for name, counts in self.codes.items()}
    storage.write_json(path, {**vars(self), "dead_letters": letters, "codes": codes})

  @classmethod
  def read(cls, path: str) -> "Report":
    """Raises InputError when it is missing."""
    value = storage.read_json(path)
    levels = {
      stem: collections.Counter({int(level): count for level, count in counts.items()})
      for stem, counts in value["levels"].items()
    }
    return cls(
      **{
        **value,
        "filtered": collections.Counter(value["filtered"]),
        "dead_letters": [DeadLetter(**letter) for letter in value["dead_letters"]],
        "levels": levels,
        "codes": {name: np.asarray(counts) for name, counts in value["codes"].items()},
      }
    )


def read_total(paths: Iterable[str]) -> Report:
  """The sum of reports on disk. Raises InputError when one is missing: something was lost."""
  return total(read_all(paths))


def read_all(paths: Iterable[str]) -> Iterator[Report]:
  """Reports on disk, in order; there may be a million of them in a bucket."""
  return storage.in_parallel(Report.read, paths)


def total(reports: Iterable[Report]) -> Report:
  """The sum of reports."""
  result = Report()
  for report in reports:
    result.clips_in += report.clips_in
    result.kept += report.kept
    result.on_disk += report.on_disk
    result.filtered += report.filtered
    result.dead_letters += report.dead_letters
    result.seconds += report.seconds
    for stem, counts in report.levels.items():
      result.levels.setdefault(stem, collections.Counter()).update(counts)
    for name, counts in report.codes.items():
      result._add_codes(name, counts)
  return result
