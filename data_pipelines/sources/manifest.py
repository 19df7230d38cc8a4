"""A list of songs in a file: CSV with a header, or one JSON object a line.

    path            the mix; relative to the list's own folder, absolute, or an address
    id              what to call it (default: the path as it is written)
    split           train, validation or test (default: by hash of the id)
    vocals          file with the true vocals, and
    instrumental    with the rest: then the mix is their sum, and `path` may be left out

Other columns are left alone.
"""

import csv
import json
import posixpath
from collections.abc import Iterator
from typing import Any

from data_pipelines.sources.base import Song, Songs
from singsong_jax import storage
from singsong_jax.errors import InputError

_FIELDS = ("path", "id", "split", "vocals", "instrumental")


def find_songs(path: str) -> Songs:
  """The songs of a list.

  Raises:
    InputError: the list cannot be read, or a line of it, which is named.
  """
  lines = storage.read_lines(path)
  rows = _json_rows(path, lines) if path.endswith(".jsonl") else _csv_rows(path, lines)
  folder = posixpath.dirname(storage.absolute(path))
  songs = [_song(folder, where, row) for where, row in rows]
  if not songs:
    raise InputError(f"--songs={path} lists no songs")
  return Songs(sorted(songs, key=lambda song: song.id), 0)


def _json_rows(path: str, lines: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as error:
      raise InputError(f"{path}: line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
      raise InputError(f"{path}: line {number} is not a JSON object")
    yield f"{path}: line {number}", row


def _csv_rows(path: str, lines: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
  reader = csv.DictReader(lines)
  if not {"path", "vocals"} & set(reader.fieldnames or ()):
    raise InputError(
      f"{path} has the columns {reader.fieldnames or []}; it needs path, or vocals and instrumental"
    )
  for row in reader:
    yield f"{path}: line {reader.line_num}", row


def _song(folder: str, where: str, row: dict[str, Any]) -> Song:
  values = {name: row.get(name) or None for name in _FIELDS}
  if wrong := [name for name, value in values.items() if not isinstance(value, str | None)]:
    raise InputError(f"{where}: {wrong[0]} is {values[wrong[0]]!r}; expected text")
  known = values["path"] or values["vocals"]
  if known is None:
    raise InputError(f"{where} has neither path nor vocals")
  try:
    return Song(
      id=values["id"] or known,
      path=_place(folder, known),
      fixed_split=values["split"],
      **{name: (_place(folder, values[name]),) for name in ("vocals", "instrumental") if values[name]},
    )
  except InputError as error:
    raise InputError(f"{where}: {error}") from error


def _place(folder: str, path: str) -> str:
  return path if storage.is_remote(path) else posixpath.join(folder, path)
