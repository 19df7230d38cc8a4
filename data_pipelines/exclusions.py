"""Songs that must not be used, such as MUSDB18's test tracks: known by name, and by what they sound like.

An exclusion list is what `python -m data_pipelines.list_exclusions` wrote, or a text file with a name a line.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import numpy as np

from data_pipelines.load import load_song
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

  def sound_reason(self, found: np.ndarray) -> str | None:
    """Why a song's fingerprint excludes it."""
    match = self._index.match(found) if self._index is not None else None
    return None if match is None else f"sounds like {match!r} of the exclusion list"

  def listener(self, song: Song) -> "Listener":
    """What hears a song and then says whether it is excluded."""
    return Listener(self, song, hears=self._index is not None)


class Listener:
  """Hears one song while that is read."""

  def __init__(self, exclusions: Exclusions, song: Song, *, hears: bool):
    self._exclusions, self._song, self._hears = exclusions, song, hears
    self._found: np.ndarray | None = None

  def listen(self, blocks: Iterator[np.ndarray]) -> None:
    """Goes through the mix: mono blocks float32 `[n]` at 44.1 kHz."""
    if self._hears:
      self._found = fingerprint.fingerprint_blocks(blocks, SONG_RATE_HZ)
    else:
      for _ in blocks:
        pass

  def reason(self) -> str | None:
    """Why the song is excluded, or None."""
    by_name = self._exclusions.name_reason(self._song)
    if by_name or self._found is None:
      return by_name
    return self._exclusions.sound_reason(self._found)


def fingerprints(songs: Iterable[Song]) -> dict[str, np.ndarray]:
  """What an exclusion list holds of songs: the last part of the id → fingerprint.

  Raises:
    InputError: a song cannot be read.
  """
  prints: dict[str, np.ndarray] = {}
  for song in songs:

    def hear(blocks: Iterator[np.ndarray], name: str = song.id.rpartition("/")[2]) -> None:
      prints[name] = fingerprint.fingerprint_blocks(blocks, SONG_RATE_HZ)

    with load_song(song, window_seconds=0, listen=hear):
      pass
  return prints


def plain_name(name: str) -> str:
  """Letters and digits alone, without case, accents and an audio file's suffix: 'Für Élise.mp3' →
  'furelise'.
  """
  stem, suffix = os.path.splitext(name)
  text = unicodedata.normalize("NFKD", stem if suffix.lower() in AUDIO_SUFFIXES else name).casefold()
  return re.sub(r"[^\w]|_", "", "".join(letter for letter in text if not unicodedata.combining(letter)))
