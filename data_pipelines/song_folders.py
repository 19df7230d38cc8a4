"""Songs whose stems are known, as folders: what `singsong_jax/evaluation/songs.py` reads.

<song>/<number>/vocals.wav, instrumental.wav    a clip; a whole song has no number
export.json                                     what was asked for and, once it is all there, counts
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import soundfile
import tqdm

from data_pipelines.load import load_song
from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song, digest_songs
from singsong_jax import files
from singsong_jax.audio.filtering import FilterSettings, rejection_reason
from singsong_jax.errors import InputError

Stems = tuple[np.ndarray, np.ndarray]  # vocals and instrumental, float32 [samples] each
RECORD = "export.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
  """What became of an export.

  Attributes:
    kept: clips, or whole songs.
    left_out: clips, by the filter's reason.
    failed: song → why it could not be read.
  """

  kept: int
  left_out: dict[str, int]
  failed: dict[str, str]


def export(
  songs: Sequence[Song], folder: pathlib.Path, clip_seconds: float, clip_filter: FilterSettings | None
) -> Counts:
  """Writes what is not there yet, mono, 44.1 kHz, float.

  Args:
    folder: new or empty, or an export of the same.
    clip_filter: which clips are kept; None: whole songs, up to their last full clip.

  Raises:
    InputError: a song without stems, an id that leads out of the folder, another folder, or a full disk.
  """
  _check(songs)
  asked = {
    "songs": {"ids": [song.id for song in songs], "digest": digest_songs(songs)},
    "clip_seconds": clip_seconds,
    "filter": clip_filter and dataclasses.asdict(clip_filter),
  }
  _claim(folder, asked)
  kept, left_out, failed = 0, collections.Counter[str](), {}
  for song in tqdm.tqdm(songs, unit="song"):
    try:
      clips = _read(song, clip_seconds)
    except InputError as error:
      failed[song.id] = str(error)
      continue
    for name, stems in _named(song, clips, whole=clip_filter is None):
      if clip_filter and (reason := rejection_reason(*stems, SONG_RATE_HZ, clip_filter)):
        left_out[reason] += 1
      else:
        _write(folder / name, stems)
        kept += 1
  counts = Counts(kept=kept, left_out=dict(left_out), failed=failed)
  files.write_json(folder / RECORD, {**asked, "counts": dataclasses.asdict(counts)})
  return counts


def _check(songs: Sequence[Song]) -> None:
  for song in songs:
    if not song.vocals:
      raise InputError(f"{song.id} came without stems: take musdb:… or a list with stems")
    place = pathlib.PurePath(song.id)
    if place.is_absolute() or ".." in place.parts:
      raise InputError(f"{song.id!r} cannot be a folder of the export: give the list another `id`")


def _claim(folder: pathlib.Path, asked: dict[str, Any]) -> None:
  record = folder / RECORD
  if record.exists():
    if {**files.read_json(record), "counts": None} != {**asked, "counts": None}:
      raise InputError(f"{folder} holds an export of other songs or settings; take another folder")
  elif any(files.make_folder(folder).iterdir()):
    raise InputError(f"{folder} is not empty; an export needs a folder of its own")
  files.write_json(record, asked)  # without counts: not finished


def _read(song: Song, clip_seconds: float) -> list[Stems]:
  with load_song(song, clip_seconds) as loaded:
    return [(clip.vocals, clip.mix - clip.vocals) for clip in loaded.clips()]


def _named(song: Song, clips: list[Stems], whole: bool) -> Iterator[tuple[str, Stems]]:
  if whole:
    vocals, instrumental = (np.concatenate(stem) for stem in zip(*clips))
    yield song.id, (vocals, instrumental)
  else:
    yield from ((f"{song.id}/{number:03d}", stems) for number, stems in enumerate(clips))


def _write(folder: pathlib.Path, stems: Stems) -> None:
  """As floats: a sum of stems may exceed full scale."""
  files.make_folder(folder)
  for name, waveform in zip(("vocals", "instrumental"), stems):
    if (path := folder / f"{name}.wav").exists():
      continue
    try:
      with files.replacing(path) as temporary:
        soundfile.write(temporary, waveform, SONG_RATE_HZ, format="WAV", subtype="FLOAT")
    except soundfile.LibsndfileError as error:
      raise InputError(f"cannot write {path}: {error} Is the disk full?") from error
