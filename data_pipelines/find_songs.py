"""Stage 1: a folder → its songs, and the split each belongs to."""

import dataclasses
import hashlib
import os
import pathlib

from data_pipelines.settings import Settings
from singsong_jax.audio.io import AUDIO_SUFFIXES
from singsong_jax.errors import InputError
from tasks.schema import split_of_song

_SAMPLE_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Song:
  """One file.

  Attributes:
    id: path relative to the folder, with `/`; what records and the dead-letter file call it.
    path: where to read it.
  """

  id: str
  path: str

  @property
  def key(self) -> str:
    """Short, safe as a file name, and the same on every machine."""
    return _digest(self.id)[:16]

  def split(self, settings: Settings) -> str:
    """By hash of the id: a song keeps its split when others are added or removed."""
    return split_of_song(self.id, settings.validation_fraction, settings.test_fraction)

  def shard(self, settings: Settings) -> int:
    """Which of its split's files holds the song's clips."""
    return int(_digest(f"shard/{self.id}")[:8], 16) % settings.num_shards


def find_songs(folder: pathlib.Path) -> tuple[list[Song], int]:
  """Every audio file under `folder`, sorted by id, and the number of other files.

  Raises:
    InputError: no such folder, or no audio in it.
  """
  if not folder.is_dir():
    raise InputError(f"--songs={folder} is not a folder")
  paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
  songs = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
  if not songs:
    raise InputError(f"--songs={folder} holds no audio files ({', '.join(AUDIO_SUFFIXES)})")
  found = [Song(id=path.relative_to(folder).as_posix(), path=str(path)) for path in songs]
  return sorted(found, key=lambda song: song.id), len(paths) - len(songs)


def digest_songs(songs: list[Song]) -> str:
  """SHA-256 (hex) of names, sizes and samples of the contents: tells whether the songs are still the same."""
  return _digest("\n".join(f"{song.id}\t{_digest_file(song.path)}" for song in songs))


def _digest_file(path: str) -> str:
  """SHA-256 (hex) of a file's size, first, middle and last 64 KiB: a million songs cannot be read whole."""
  size = os.path.getsize(path)
  digest = hashlib.sha256(str(size).encode())
  with open(path, "rb") as file:
    for position in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
      file.seek(position)
      digest.update(file.read(_SAMPLE_BYTES))
  return digest.hexdigest()


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()
