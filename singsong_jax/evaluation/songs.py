"""Songs whose stems are known, and what an accompaniment of their vocals should fit."""

import collections
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from singsong_jax import files
from singsong_jax.audio.io import audio_files, read_audio, to_mono
from singsong_jax.audio.resampling import resample
from singsong_jax.errors import InputError
from singsong_jax.evaluation.musical import RATE_HZ, Truth

STEMS, _ANNOTATIONS = "stems", "annotations"
_EXPORT = "export.json"  # that `data_pipelines.export_songs` writes; with counts when it is done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Song:
  """Files of one song.

  Attributes:
    vocals, instrumental: of equal length.
    annotation: a demo song's (docs/demo_corpus.md), or None.
    clip_of: the song that this is a clip of, or None.
  """

  name: str
  vocals: pathlib.Path
  instrumental: pathlib.Path
  annotation: pathlib.Path | None = None
  clip_of: str | None = None

  @property
  def track(self) -> str:
    """What it has key, tempo and players in common with: clips of one song have the same."""
    return self.clip_of or self.name

  def read_vocals(self) -> tuple[np.ndarray, int]:
    """Mono float32 `[samples]` and their rate in Hz. Raises InputError as `read_audio`."""
    waveform, rate_hz = read_audio(self.vocals)
    return to_mono(waveform), rate_hz

  def read_instrumental(self, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Mono float32 `[samples]` at `rate_hz`. Raises InputError as `read_audio`."""
    waveform, found_hz = read_audio(self.instrumental)
    return resample(to_mono(waveform), found_hz, rate_hz)

  def truth(self) -> Truth:
    """Of the annotation, or as heard in the true accompaniment. Raises InputError, naming the file."""
    return _truth(self)


@functools.cache  # hearing it takes long
def _truth(song: Song) -> Truth:
  try:
    if song.annotation:
      return Truth.from_annotation(json.loads(song.annotation.read_text(encoding="utf-8")))
    return Truth.heard_in(song.read_instrumental())
  except (InputError, ValueError, KeyError, TypeError) as error:
    raise InputError(f"{song.annotation or song.instrumental}: {error}") from error


def find_songs(folder: str | os.PathLike) -> list[Song]:
  """Songs of a folder with `NAME/vocals.wav` and `NAME/instrumental.wav` (or another audio format), sorted;
  of the demo corpus's layout too, with its annotations.

  Raises:
    InputError: no such folder, no song in it, or one that lacks a stem.
  """
  root = pathlib.Path(folder)
  stems = root / STEMS if (root / STEMS).is_dir() else root
  if not stems.is_dir():
    raise InputError(f"{folder} is not a folder of songs")
  has_clips = _has_clips(root)
  found: dict[str, dict[str, pathlib.Path]] = {}
  for path in audio_files(stems):
    if path.stem in ("vocals", "instrumental"):
      found.setdefault(str(path.parent.relative_to(stems)), {})[path.stem] = path
  for name, parts in found.items():
    if len(parts) < 2:
      raise InputError(f"{stems / name} has {next(iter(parts))} alone; vocals and instrumental are needed")
  if not found:
    raise InputError(f"{folder} holds no songs: NAME/vocals.wav and NAME/instrumental.wav are looked for")
  songs = []
  for name, parts in sorted(found.items()):
    annotation = root / _ANNOTATIONS / f"{name}.json"
    songs.append(
      Song(
        name=name,
        annotation=annotation if annotation.exists() else None,
        clip_of=_song_of(name) if has_clips else None,
        **parts,
      )
    )
  return songs


def tracks_of(names: Iterable[str], folder: str | os.PathLike) -> list[str]:
  """`Song.track` of clips that are named as in `folder`. Raises InputError as `find_songs`."""
  has_clips = _has_clips(pathlib.Path(folder))
  return [_song_of(name) if has_clips else name for name in names]


def _has_clips(root: pathlib.Path) -> bool:
  """Whether it is an export of clips, SONG/NUMBER."""
  if not (root / _EXPORT).exists():
    return False
  export = files.read_json(root / _EXPORT)
  if "counts" not in export:
    raise InputError(f"{root} is an export that was not finished: give its command once more")
  return bool(export.get("filter"))


def _song_of(name: str) -> str:
  return str(pathlib.PurePath(name).parent)


def some(songs: Sequence[Song], number: int | None) -> list[Song]:
  """So many of them, of as many tracks as there are: the first clip of each, the second, …; None: all.

  In the order of `songs`.
  """
  turns, keys = collections.Counter[str](), []
  for index, song in enumerate(songs):
    keys.append((turns[song.track], index))
    turns[song.track] += 1
  return [songs[index] for index in sorted(index for _, index in sorted(keys)[:number])]


def digest(songs: Sequence[Song]) -> str:
  """As `digest_files`, of all files and the tracks they are of: whether results are of the same songs."""
  return digest_files(
    (f"{song.name} of {song.track}", path)
    for song in songs
    for path in (song.vocals, song.instrumental, song.annotation)
    if path
  )


def digest_files(named: Iterable[tuple[str, pathlib.Path]]) -> str:
  """SHA-256, hex, of names and files. Raises InputError for a file that cannot be read."""
  found = hashlib.sha256()
  for name, path in named:
    try:
      with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
      raise InputError(f"cannot read {path}: {error.strerror}") from error
    found.update(f"{name}\n{content}\n".encode())
  return found.hexdigest()
