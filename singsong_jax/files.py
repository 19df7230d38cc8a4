"""Writing files so that a reader never meets half of one."""

import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import socket
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from singsong_jax.errors import InputError


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path`; renames it to `path` on success, deletes it on failure.

  The temporary name keeps the suffix of `path`, since audio and image writers choose the format by it.

  Raises:
    InputError: the file cannot be written (no such folder, no permission, disk full).
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
    os.replace(temporary, path)
  except OSError as error:
    raise InputError(f"cannot write {path}: {error.strerror or error}") from error
  finally:
    with contextlib.suppress(OSError):  # a folder that is none has been complained about already
      temporary.unlink(missing_ok=True)


def local_folder(path: str | os.PathLike) -> pathlib.Path:
  """`path` as an absolute path.

  Raises:
    InputError: it is the address of a bucket: only folders of this machine, mounted ones among them, work.
  """
  if "://" in str(path):
    raise InputError(f"{path} is not a folder of this machine; mount the bucket and give its path")
  return pathlib.Path(path).absolute()


def make_folder(path: str | os.PathLike) -> pathlib.Path:
  """Makes a folder for results, and its parents. Raises InputError where that cannot be."""
  try:
    pathlib.Path(path).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f"cannot use {path} as a folder: {error.strerror}") from error
  return pathlib.Path(path)


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
  """Holds `.lock` in a folder, so that no other process works in it. The kernel frees it however one ends.

  Raises:
    InputError: another process holds it.
  """
  path = pathlib.Path(folder) / ".lock"
  with _opened_for_locking(path) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise InputError(
        f"{folder} is in use by {file.read().strip() or 'another process'}; wait or stop it"
      ) from None
    except OSError as error:  # a file system without locks
      print(f"WARNING: cannot lock {folder} ({error.strerror}): start nothing else in it", file=sys.stderr)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    yield


def _opened_for_locking(path: pathlib.Path) -> TextIO:
  try:
    return open(path, "a+", encoding="utf-8")
  except OSError as error:
    raise InputError(f"cannot write {path}: {error.strerror}") from error


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes `text` to `path` in one rename."""
  with replacing(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON with sorted keys, so that equal values give equal files."""
  write_text(path, to_json(value))


def to_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
  """A line for the columns, and one for each row."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(columns)
  writer.writerows(rows)
  return text.getvalue()


def to_json(value: Any) -> str:
  """As `write_json` writes it."""
  return json.dumps(value, indent=2, sort_keys=True) + "\n"


def read_json(path: str | os.PathLike) -> Any:
  """Reads JSON from `path`.

  Raises:
    InputError: the file is missing, unreadable or not JSON.
  """
  try:
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except OSError as error:
    raise InputError(f"cannot read {path}: {error.strerror or error}") from error
  except ValueError as error:
    raise InputError(f"{path} is not JSON: {error}") from error


def claim(folder: pathlib.Path, run: dict[str, Any]) -> None:
  """Writes `run.json`: what a folder's results are of.

  Raises:
    InputError: it holds what another run made.
  """
  path = folder / "run.json"
  run = json.loads(to_json(run))  # as it comes back
  if path.exists() and (known := read_json(path)) != run:
    differing = ", ".join(sorted(name for name in {*run, *known} if run.get(name) != known.get(name)))
    raise InputError(f"{folder} holds the results of another run ({differing} differ); take another folder")
  write_json(path, run)
