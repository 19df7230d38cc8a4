"""The Free Music Archive data set (Defferrard et al. 2017): `fma_large/012/012345.mp3` and so on.

With its `tracks.csv`, looked for beside the audio or given as `fma:FOLDER,metadata=PATH`, songs come in its
own splits, and `subset=small|medium|large|full` takes part of them; without, splits go by hash.
"""

import csv
import dataclasses
import posixpath
import re

from data_pipelines.sources import folder as folders
from data_pipelines.sources.base import Song, Songs
from singsong_jax import storage
from singsong_jax.errors import InputError

SUBSETS = ("small", "medium", "large", "full")  # each holds those before it
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_PLACES = ("tracks.csv", "fma_metadata/tracks.csv", "../fma_metadata/tracks.csv")
_NAME = re.compile(r"(?:^|.*/)(\d{6})\.mp3", re.IGNORECASE)


def find_songs(folder: str, metadata: str | None = None, subset: str | None = None) -> Songs:
  """The tracks; ids are paths relative to the folder, as `012/012345.mp3`.

  Raises:
    InputError: no such folder or no tracks in it; a subset without metadata; metadata that are none.
  """
  if subset is not None and subset not in SUBSETS:
    raise InputError(f"--songs=fma:{folder}: subset {subset!r} is none of {', '.join(SUBSETS)}")
  found = folders.find_songs(folder)
  tracks = [song for song in found.songs if _NAME.fullmatch(song.id)]
  others = found.other_files + len(found.songs) - len(tracks)
  if not tracks:
    raise InputError(f"--songs=fma:{folder} has no files named like 012/012345.mp3")
  table = _find_table(folder, metadata)
  if table is None:
    if subset is not None:
      raise InputError(f"--songs=fma:{folder}: subset={subset} needs tracks.csv: add metadata=PATH")
    return Songs(tracks, others)
  rows = _read(table)
  members = [song for track in tracks if (song := _placed(track, rows, subset)) is not None]
  if not members:
    raise InputError(
      f"--songs=fma:{folder}: none of its {len(tracks)} tracks is in subset={subset} of {table}"
    )
  return Songs(members, others)


def _find_table(folder: str, metadata: str | None) -> str | None:
  if metadata is not None:
    return metadata if metadata.endswith(".csv") else posixpath.join(metadata, "tracks.csv")
  places = [posixpath.join(storage.absolute(folder), place) for place in _PLACES]
  return next((place for place in places if storage.exists(place)), None)


def _read(table: str) -> dict[int, tuple[str, str]]:
  """Track number → split and subset. The header has two lines, of which the second names what we want."""
  rows = csv.reader(storage.read_lines(table))
  try:
    groups, names = next(rows), next(rows)
    columns = list(zip(groups, names))
    split, subset = columns.index(("set", "split")), columns.index(("set", "subset"))
    return {int(row[0]): (row[split], row[subset]) for row in rows if row and row[0].isdigit()}
  except (StopIteration, ValueError, IndexError) as error:
    raise InputError(
      f"{table} is not FMA's tracks.csv: it lacks the columns set/split and set/subset"
    ) from error


def _placed(track: Song, rows: dict[int, tuple[str, str]], subset: str | None) -> Song | None:
  """The track with its split; None where it is not in the subset. One the table lacks goes by hash."""
  match = _NAME.fullmatch(track.id)
  assert match is not None  # find_songs chose by it
  split, smallest = rows.get(int(match[1]), (None, "full"))
  if subset is not None and SUBSETS.index(smallest or "full") > SUBSETS.index(subset):
    return None
  return dataclasses.replace(track, fixed_split=_SPLITS.get(split or ""))
