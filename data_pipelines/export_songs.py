"""Songs whose stems are known, as the folders that `evaluate`, `judge` and `study` take (SingSong §4.1).

  python -m data_pipelines.export_songs --songs=musdb:MUSDB18 --split=test --output_dir=TEST
  python -m data_pipelines.export_songs --songs=musdb:MUSDB18 --split=validation --whole --output_dir=LIBRARY

The first writes the clips of 10 s in which vocals are present, `<song>/<number>/vocals.wav` and
`instrumental.wav`; the second whole tracks, for Random and Retrieval. Mono, 44.1 kHz, float. `export.json`
says how many clips were left out and why, and which songs could not be read.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import soundfile
import tqdm
from absl import flags

from data_pipelines.load import load_song
from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song, find_songs
from singsong_jax import cli, files
from singsong_jax.audio.filtering import FilterSettings, rejection_reason
from singsong_jax.errors import InputError
from tasks.schema import SPLITS

_SONGS = flags.DEFINE_string("songs", None, "musdb:FOLDER, or a list with stems; docs/data.md", required=True)
_SPLIT = flags.DEFINE_enum(
  "split", None, SPLITS, "only songs of this split, of data sets that come with splits"
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder to make", required=True)
_WHOLE = flags.DEFINE_bool("whole", False, "whole songs, up to their last full clip, and no filter")
_CLIP_SECONDS = flags.DEFINE_float("clip_seconds", 10.0, "length of a clip", lower_bound=1.0)
_FILTER = flags.DEFINE_string("filter", "musdb", "which clips are kept: musdb, fastsag, singsong or none")
_MIN_VOCALS_DB = flags.DEFINE_float("min_vocals_db", FilterSettings.min_vocals_db, "of the filter musdb")

Stems = tuple[np.ndarray, np.ndarray]  # vocals and instrumental, float32 [samples] each
_RECORD = "export.json"


def main(_) -> None:
  songs = [song for song in find_songs(_SONGS.value).songs if _SPLIT.value in (None, song.fixed_split)]
  if not songs:
    raise InputError(f"--songs={_SONGS.value} has no songs of --split={_SPLIT.value}")
  if without := [song.id for song in songs if not song.vocals]:
    raise InputError(f"{without[0]} came without stems: take musdb:… or a list with stems")
  clip_filter = FilterSettings(rule=_FILTER.value, min_vocals_db=_MIN_VOCALS_DB.value)
  asked = {
    "songs": [song.id for song in songs],
    "clip_seconds": _CLIP_SECONDS.value,
    "filter": None if _WHOLE.value else dataclasses.asdict(clip_filter),
  }
  folder = _claimed(pathlib.Path(_OUTPUT_DIR.value), asked)
  kept, left_out, failed = 0, collections.Counter[str](), {}
  for song in tqdm.tqdm(songs, unit="song"):
    try:
      for name, stems in _pieces(song, _CLIP_SECONDS.value, _WHOLE.value):
        if not _WHOLE.value and (reason := rejection_reason(*stems, SONG_RATE_HZ, clip_filter)):
          left_out[reason] += 1
        else:
          _write(folder / name, stems)
          kept += 1
    except InputError as error:
      failed[song.id] = str(error)
  counts = {"kept": kept, "left_out": dict(left_out), "failed": failed}
  files.write_json(folder / _RECORD, {**asked, "counts": counts})
  print(f"{folder}: {kept} of {kept + left_out.total()} kept, left out: {dict(left_out) or 'none'}")
  for song_id, why in failed.items():
    print(f"could not be read: {song_id}: {why}")
  if not kept:
    raise InputError(f"nothing of {len(songs)} songs was kept; {folder / _RECORD} says why")


def _claimed(folder: pathlib.Path, asked: dict) -> pathlib.Path:
  """The folder, made. Raises InputError where it holds anything but an export of the same."""
  record = folder / _RECORD
  if record.exists():
    if {**files.read_json(record), "counts": None} != {**asked, "counts": None}:
      raise InputError(f"{folder} holds an export of other songs or settings; take another folder")
  elif any(files.make_folder(folder).iterdir()):
    raise InputError(f"{folder} is not empty; an export needs a folder of its own")
  files.write_json(record, asked)
  return folder


def _pieces(song: Song, clip_seconds: float, whole: bool) -> Iterator[tuple[str, Stems]]:
  """Name of its folder, and stems."""
  with load_song(song, clip_seconds) as loaded:
    clips = ((clip.vocals, clip.mix - clip.vocals) for clip in loaded.clips())
    if whole:
      vocals, instrumental = (np.concatenate(stem) for stem in zip(*clips))
      yield song.id, (vocals, instrumental)
    else:
      yield from ((f"{song.id}/{number:03d}", stems) for number, stems in enumerate(clips))


def _write(folder: pathlib.Path, stems: Stems) -> None:
  """As floats: a sum of stems may exceed full scale."""
  files.make_folder(folder)
  for name, waveform in zip(("vocals", "instrumental"), stems):
    with files.replacing(folder / f"{name}.wav") as temporary:
      soundfile.write(temporary, waveform, SONG_RATE_HZ, format="WAV", subtype="FLOAT")


if __name__ == "__main__":
  cli.run(main)
