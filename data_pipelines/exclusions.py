"""Songs that must not be used, such as MUSDB18's test tracks: known by name, and by what they sound like.

An exclusion list is what `python -m data_pipelines.list_exclusions` wrote, or a text file with a name a line.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import numpy as np

from data_pipelines.load import Hear, exhaust, load_song
from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song
from singsong_jax import storage
from singsong_jax.audio import fingerprint
from singsong_jax.audio.io import AUDIO_SUFFIXES
from singsong_jax.errors import InputError

_SHORT = 10  # a shorter name would be found inside many others: it must be the whole name of a file


class Exclusions:
  """A list of names, and an index of fingerprints."""

  def __init__(self, names: Iterable[str] = (), prints: Mapping[str, np.ndarray] | None = None):
    self._names = {plain_name(name): name for name in names if plain_name(name)}
    self._index = fingerprint.Index(prints) if prints else None

  @classmethod
  def load(cls, path: str | None) -> Self:
    """The list of a file; an empty one without. Raises InputError where it cannot be read."""
    if path is None:
      return cls()
    if not str(path).endswith(".npz"):
      return cls(line.strip() for line in storage.read_lines(path) if not line.startswith("#"))
    with storage.local(path) as local:
      if not local.is_file():
        raise InputError(
          f"--exclude={path} does not exist; `python -m data_pipelines.list_exclusions` makes it"
        )
      prints = fingerprint.load(local)
    return cls(prints, prints)

  def name_reason(self, song: Song) -> str | None:
    """Why a song's name excludes it: it is, or its path contains, a listed name."""
    whole, last = plain_name(song.id), plain_name(song.id.rpartition("/")[2])
    for name, written in self._names.items():
      if name == last or (len(name) >= _SHORT and name in whole):
        return f"named like {written!r} of the exclusion list"
    return None

  @property
  def hear(self) -> Hear:
    """What has to hear the mix of a song before `sound_reason` can be asked."""
    return hear if self._index is not None else exhaust

  def sound_reason(self, heard: np.ndarray | None) -> str | None:
    """Why what `hear` gave excludes a song."""
    match = self._index.match(heard) if self._index is not None and heard is not None else None
    return None if match is None else f"sounds like {match!r} of the exclusion list"


def hear(mix: Iterator[np.ndarray]) -> np.ndarray:
  """The fingerprint of blocks of a mix, float32 `[n]` at 44.1 kHz."""
  return fingerprint.fingerprint_blocks(mix, SONG_RATE_HZ)


def fingerprints(songs: Iterable[Song]) -> dict[str, np.ndarray]:
  """What an exclusion list holds of songs: name → fingerprint.

  A name is the last part of the id, or the whole where two have the same.

  Raises:
    InputError: a song cannot be read.
  """
  prints: dict[str, np.ndarray] = {}
  for song in songs:
    with load_song(song, window_seconds=0, hear=hear) as loaded:
      last = song.id.rpartition("/")[2]
      prints[song.id if last in prints else last] = loaded.heard
  return prints


def plain_name(name: str) -> str:
  """Letters and digits alone, no case, accents or audio suffix: 'Für Élise.mp3' → 'furelise'."""
  stem, suffix = os.path.splitext(name)
  text = unicodedata.normalize("NFKD", stem if suffix.lower() in AUDIO_SUFFIXES else name).casefold()
  return re.sub(r"[^\w]|_", "", "".join(letter for letter in text if not unicodedata.combining(letter)))
