"""MUSDB18 (stems in .stem.mp4), MUSDB18-HQ (a folder of WAV files a track), or anything laid out like either.

    FOLDER/{train,test}/<track>.stem.mp4            streams: mixture, drums, bass, other, vocals
    FOLDER/{train,test}/<track>/{vocals,drums,bass,other}.wav

The mix of a track is the sum of its stems (MUSDB18's own mixture differs from that by what AAC does to it).
Its train set is SingSong's dev set (§4.1), hence `validation` here; nothing of MUSDB18 is trained on.
"""

import os
import pathlib

from data_pipelines.sources.base import Song, Songs
from singsong_jax import storage
from singsong_jax.errors import InputError

SPLITS = {"train": "validation", "test": "test"}
STEMS_SUFFIX = ".stem.mp4"
EXCERPT_SECONDS = 10.0  # the excerpts of the free download last 7 s
_INSTRUMENTS = ("drums", "bass", "other")
_STREAMS = {"mixture": 0, "drums": 1, "bass": 2, "other": 3, "vocals": 4}
_WHY_NOT = (
  "are 7 s excerpts, the free sample of MUSDB18 (`musdb` with download=True): none is long enough for a clip "
  "of 10 s. The whole data set, on request from zenodo.org/records/1117372, is needed"
)


def find_songs(folder: str) -> Songs:
  """The tracks; ids are `train/<track>` and `test/<track>`, as the `musdb` package orders them.

  Raises:
    InputError: no such folder, no tracks in it, a track without all stems, or the 7 s excerpts.
  """
  if storage.is_remote(folder):
    raise InputError(f"--songs=musdb:{folder}: give a folder of this machine")
  root = pathlib.Path(folder).expanduser().absolute()
  tracks = [track for subset in SPLITS for track in _tracks(root, subset)]
  if not tracks:
    raise InputError(
      f"--songs=musdb:{folder}: no tracks; expected {root}/train and /test with *{STEMS_SUFFIX} files "
      "(MUSDB18), or a folder of WAV files for each track (MUSDB18-HQ)"
    )
  _refuse_excerpts(root, tracks)
  return Songs(sorted(tracks, key=lambda song: song.id), 0)


def _tracks(root: pathlib.Path, subset: str) -> list[Song]:
  if not (root / subset).is_dir():
    return []
  entries = sorted((root / subset).iterdir())
  coded = [_of_streams(subset, path) for path in entries if path.name.endswith(STEMS_SUFFIX)]
  return coded + [_of_files(subset, path) for path in entries if path.is_dir()]


def _of_streams(subset: str, path: pathlib.Path) -> Song:
  streams = {name: f"{path}#{stream}" for name, stream in _STREAMS.items()}
  return Song(
    id=f"{subset}/{path.name.removesuffix(STEMS_SUFFIX)}",
    path=str(path),
    fixed_split=SPLITS[subset],
    vocals=(streams["vocals"],),
    instrumental=tuple(streams[name] for name in _INSTRUMENTS),
  )


def _of_files(subset: str, folder: pathlib.Path) -> Song:
  stems = {name: folder / f"{name}.wav" for name in ("vocals", *_INSTRUMENTS)}
  if missing := [path for path in stems.values() if not path.is_file()]:
    raise InputError(f"{missing[0]} is missing: a track of MUSDB18-HQ has {', '.join(stems)} as .wav")
  return Song(
    id=f"{subset}/{folder.name}",
    path=str(folder),
    fixed_split=SPLITS[subset],
    vocals=(str(stems["vocals"]),),
    instrumental=tuple(str(stems[name]) for name in _INSTRUMENTS),
  )


def _refuse_excerpts(root: pathlib.Path, tracks: list[Song]) -> None:
  from data_pipelines.load import song_seconds

  if max(song_seconds(track) for track in tracks) < EXCERPT_SECONDS:
    raise InputError(f"--songs=musdb:{os.fspath(root)}: its {len(tracks)} tracks {_WHY_NOT}")
