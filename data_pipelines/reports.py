"""What became of each song and of each shard: small JSON files on disk, so that nothing is lost unseen.

Beam's own counters are not used: a runner that drops elements drops their counts too. A worker
writes a report after the file it speaks of; the main process misses any that is not there.
"""

import collections
import dataclasses
import pathlib

from singsong_jax import files
from singsong_jax.errors import InputError


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
    dead_letters: songs and clips that failed.
  """

  clips_in: int = 0
  kept: int = 0
  on_disk: int = 0
  filtered: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  dead_letters: list[DeadLetter] = dataclasses.field(default_factory=list)

  @property
  def dead_clips(self) -> int:
    return sum(letter.clip is not None for letter in self.dead_letters)

  def fail(self, song: str, clip: str | None, stage: str, error: Exception) -> None:
    """Notes a failure. An unforeseen kind of error is named, as its message alone may say little."""
    reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    self.dead_letters.append(DeadLetter(song=song, clip=clip, stage=stage, reason=reason))

  def check(self, what: str) -> None:
    """Raises RuntimeError unless every clip is accounted for exactly once, on disk too."""
    if self.clips_in != self.kept + self.filtered.total() + self.dead_clips or self.kept != self.on_disk:
      raise RuntimeError(f"{what}: clips are unaccounted for: {self}")

  def write(self, path: pathlib.Path) -> None:
    """Writes the report in one rename."""
    # Not dataclasses.asdict, which makes tuples of a Counter's keys.
    letters = [vars(letter) for letter in self.dead_letters]
    files.write_json(path, {**vars(self), "dead_letters": letters})

  @classmethod
  def read(cls, path: pathlib.Path) -> "Report":
    """Raises InputError when it is missing."""
    value = files.read_json(path)
    letters = [DeadLetter(**letter) for letter in value["dead_letters"]]
    return cls(**{**value, "filtered": collections.Counter(value["filtered"]), "dead_letters": letters})


def total(reports: list[Report]) -> Report:
  """The sum of reports."""
  result = Report()
  for report in reports:
    result.clips_in += report.clips_in
    result.kept += report.kept
    result.on_disk += report.on_disk
    result.filtered += report.filtered
    result.dead_letters += report.dead_letters
  return result
