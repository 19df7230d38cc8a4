"""A folder with songs, searched with its subfolders and with folders that are linked to."""

import os
import posixpath

from data_pipelines.sources.base import Song, Songs
from singsong_jax import storage
from singsong_jax.audio import ffmpeg
from singsong_jax.audio.io import AUDIO_SUFFIXES
from singsong_jax.errors import InputError


def find_songs(folder: str) -> Songs:
  """Every audio file; its id is its path relative to the folder.

  What is called audio and is none, a link to nothing say, is a song that the job will account for.

  Raises:
    InputError: no such folder, or no audio in it.
  """
  if not storage.is_remote(folder) and not os.path.isdir(folder):
    raise InputError(f"--songs={folder} is not a folder")
  root = storage.absolute(folder)
  paths = [path for path in storage.walk(root) if not posixpath.basename(path).startswith(".")]
  songs = [Song(id=_text(path), path=posixpath.join(root, path)) for path in paths if is_audio(path)]
  if not songs:
    raise InputError(f"--songs={folder} holds no audio files ({', '.join(AUDIO_SUFFIXES)})")
  return Songs(sorted(songs, key=lambda song: song.id), len(paths) - len(songs))


def is_audio(path: str) -> bool:
  """By its name."""
  return path.lower().endswith((*AUDIO_SUFFIXES, *ffmpeg.SUFFIXES))


def _text(path: str) -> str:
  """A name that is no UTF-8 has its odd bytes as \\xNN: records and reports hold text."""
  return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
