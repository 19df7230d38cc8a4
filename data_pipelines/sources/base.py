"""What a song is, and what `--songs` may say.

    FOLDER                       every audio file in it and its subfolders
    songs.csv, songs.jsonl       a manifest: path, and if wanted id, split, vocals, instrumental
    musdb:FOLDER                 MUSDB18 or MUSDB18-HQ, or folders of stems laid out like it
    fma:FOLDER[,subset=small]    the Free Music Archive's data set

Each is one file here and a line in `_SOURCES`. FOLDER and files may lie in a bucket.
"""

import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from singsong_jax import storage
from singsong_jax.audio.specs import construct, parse_spec
from singsong_jax.errors import InputError
from tasks.schema import SPLITS, split_of_song

_SAMPLE_BYTES = 1 << 16
_STREAM = re.compile(r"(?P<path>.*\.mp4)#(?P<stream>\d+)", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Song:
  """One song.

  Attributes:
    id: what records and the dead-letter file call it; unique.
    path: where to read the mix; of a song with stems, whichever file says best which song it is.
    fixed_split: of data sets that come with splits; None: by hash of the id.
    vocals, instrumental: files that sum to the true stems; the mix is then their sum. `x.stem.mp4#4` is
      stream 4 of a file.
  """

  id: str
  path: str
  fixed_split: str | None = None
  vocals: tuple[str, ...] = ()
  instrumental: tuple[str, ...] = ()

  def __post_init__(self):
    if self.fixed_split is not None and self.fixed_split not in SPLITS:
      raise InputError(f"song {self.id!r}: split {self.fixed_split!r} is none of {', '.join(SPLITS)}")
    if bool(self.vocals) != bool(self.instrumental):
      raise InputError(f"song {self.id!r} has one stem without the other")

  @property
  def key(self) -> str:
    """Short, safe as a file name, and the same on every machine."""
    return _digest(self.id)[:16]

  @property
  def files(self) -> tuple[str, ...]:
    """What is read of it."""
    stems = [split_reference(reference)[0] for reference in (*self.vocals, *self.instrumental)]
    return tuple(dict.fromkeys(stems)) or (self.path,)

  def split(self, validation_fraction: float, test_fraction: float) -> str:
    """Its own, or by hash of the id: a song keeps its split when others are added or removed."""
    return self.fixed_split or split_of_song(self.id, validation_fraction, test_fraction)

  def shard(self, num_shards: int) -> int:
    """Which of its split's files holds the song's clips."""
    return int(_digest(f"shard/{self.id}")[:8], 16) % num_shards


def split_reference(reference: str) -> tuple[str, int]:
  """Path and stream of a stem's file: `x.stem.mp4#4` is stream 4, other files have stream 0 alone."""
  match = _STREAM.fullmatch(reference)
  return (match["path"], int(match["stream"])) if match else (reference, 0)


class Songs(NamedTuple):
  """What a source holds.

  Attributes:
    songs: sorted by id.
    other_files: how many files were passed over, as they are not even called audio.
  """

  songs: list[Song]
  other_files: int


_HERE = "data_pipelines.sources"
_SOURCES = {"musdb": f"{_HERE}.musdb:find_songs", "fma": f"{_HERE}.fma:find_songs"}
_MANIFESTS = (".csv", ".jsonl")


def find_songs(source: str) -> Songs:
  """The songs of `--songs`.

  Raises:
    InputError: it does not exist, holds no songs, or two songs have the same id.
  """
  flag = f"--songs={source}"
  name, place, settings = parse_spec(source)
  if name in _SOURCES and place and not place.startswith("//"):
    found = construct(flag, _SOURCES[name], place, **settings)
  elif source.endswith(_MANIFESTS):
    found = construct(flag, f"{_HERE}.manifest:find_songs", source)
  else:
    found = construct(flag, f"{_HERE}.folder:find_songs", source)
  ids = [song.id for song in found.songs]
  for before, after in itertools.pairwise(ids):
    if before == after:
      raise InputError(f"{flag}: two songs have the id {after!r}")
  return found


def digest_songs(songs: Sequence[Song]) -> str:
  """SHA-256 (hex) of ids, splits, sizes and samples of the contents: whether the songs are still the same."""
  contents = storage.in_parallel(lambda song: "/".join(map(_digest_file, song.files)), songs)
  return _digest("\n".join(f"{song.id}\t{song.fixed_split}\t{file}" for song, file in zip(songs, contents)))


def _digest_file(path: str) -> str:
  """SHA-256 (hex) of a file's size, first, middle and last 64 KiB: a million songs cannot be read whole.

  Of a file in a bucket the size alone. A file that cannot be read is the job's to complain about.
  """
  try:
    size = storage.size(path)
  except InputError:
    return "unreadable"
  digest = hashlib.sha256(str(size).encode())
  if not storage.is_remote(path) and os.access(path, os.R_OK) and os.path.isfile(path):
    with open(path, "rb") as file:
      for position in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
        file.seek(position)
        digest.update(file.read(_SAMPLE_BYTES))
  return digest.hexdigest()


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
