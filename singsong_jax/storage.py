"""Files of this machine or of a bucket: a path, or an address such as gs://bucket/folder.

Addresses go through TensorFlow (gs://, ram://, hdfs:// with its plug-in), imported when the first one is met,
paths through `files`. Either way a reader never meets half a file.
"""

import contextlib
import hashlib
import itertools
import os
import pathlib
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from singsong_jax import files
from singsong_jax.errors import InputError

Location = str | os.PathLike
T, R = TypeVar("T"), TypeVar("R")
_READERS = 32


def is_remote(path: Location) -> bool:
  """Whether it is an address, not a path."""
  return "://" in os.fspath(path)


def absolute(path: Location) -> str:
  """A path made absolute; an address as it is, without a slash at its end."""
  return os.fspath(path).rstrip("/") if is_remote(path) else str(pathlib.Path(path).expanduser().resolve())


def exists(path: Location) -> bool:
  """Whether a file, or a folder with something in it, is there."""
  if not is_remote(path):
    return os.path.exists(path)
  with _remote(path) as gfile:
    return gfile.exists(os.fspath(path))


def size(path: Location) -> int:
  """Bytes of a file. Raises InputError where it cannot be read."""
  if not is_remote(path):
    try:
      return os.path.getsize(path)
    except OSError as error:
      raise InputError(f"cannot read {path}: {error.strerror}") from error
  with _remote(path) as gfile:
    return gfile.stat(os.fspath(path)).length


def names(folder: Location) -> list[str]:
  """What a folder holds, sorted; nothing where there is no folder."""
  if not is_remote(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  with _remote(folder) as gfile:
    found = gfile.listdir(os.fspath(folder)) if gfile.isdir(os.fspath(folder)) else []
  return sorted(name.rstrip("/") for name in found)


def walk(folder: Location) -> Iterator[str]:
  """The files of a folder and its subfolders, as paths relative to it, with `/`.

  Linked folders are followed, each folder once; a link to nothing counts as a file.
  """
  if is_remote(folder):
    yield from _walk_remote(os.fspath(folder))
    return
  seen = set()
  for parent, folders, file_names in os.walk(folder, followlinks=True):
    real = os.path.realpath(parent)
    if real in seen:
      folders.clear()
      continue
    seen.add(real)
    folders.sort()
    for name in file_names:
      yield pathlib.Path(parent, name).relative_to(folder).as_posix()


def _walk_remote(folder: str) -> Iterator[str]:
  with _remote(folder) as gfile:
    for parent, _, file_names in gfile.walk(folder):
      for name in file_names:
        yield posixpath.join(parent, name).removeprefix(folder).lstrip("/")


@contextlib.contextmanager
def replacing(path: Location) -> Iterator[pathlib.Path]:
  """Yields a file of this machine to write; it becomes `path` in one step when the context is left well.

  Raises:
    InputError: it cannot be written.
  """
  if not is_remote(path):
    with files.replacing(path) as temporary:
      yield temporary
    return
  folder, name = posixpath.split(os.fspath(path))
  partial = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.partial"
  with tempfile.TemporaryDirectory() as scratch:
    temporary = pathlib.Path(scratch, name)
    yield temporary
    with _remote(path) as gfile:
      gfile.makedirs(folder)
      gfile.copy(str(temporary), partial)
      gfile.rename(partial, os.fspath(path), overwrite=True)


@contextlib.contextmanager
def local(path: Location) -> Iterator[pathlib.Path]:
  """Yields where on this machine the file can be read: itself, or a copy as long as the context lasts.

  Raises:
    InputError: a file of a bucket cannot be fetched. A missing path is the reader's to complain about.
  """
  if not is_remote(path):
    yield pathlib.Path(path)
    return
  with tempfile.TemporaryDirectory() as scratch:
    copy = pathlib.Path(scratch, posixpath.basename(os.fspath(path)))
    with _remote(path) as gfile:
      gfile.copy(os.fspath(path), str(copy))
    yield copy


def in_parallel(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
  """`read` of each, in order, many at a time: what waits for a disk or a network need not wait alone."""
  waiting = iter(items)
  with ThreadPoolExecutor(_READERS) as pool:
    while part := list(itertools.islice(waiting, 100 * _READERS)):
      yield from pool.map(read, part)


def write_text(path: Location, text: str) -> None:
  """Writes `text` to `path` in one step."""
  with replacing(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


def write_json(path: Location, value: Any) -> None:
  """Writes `value` as indented JSON with sorted keys, so that equal values give equal files."""
  write_text(path, files.to_json(value))


def read_json(path: Location) -> Any:
  """Reads JSON. Raises InputError where the file is missing, unreadable or no JSON."""
  with local(path) as copy:
    return files.read_json(copy)


def read_lines(path: Location) -> list[str]:
  """The lines of a text file. Raises InputError where it is missing or no text."""
  with local(path) as copy:
    try:
      return copy.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
      raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
      raise InputError(f"{path} is not UTF-8 text: {error}") from error


def sha256(path: Location) -> str:
  """SHA-256 (hex) of a file. Raises InputError where it cannot be read."""
  with local(path) as copy:
    try:
      with open(copy, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
      raise InputError(f"cannot read {path}: {error.strerror}") from error


def remove(path: Location) -> None:
  """Deletes a file or a folder with all it holds; one that is not there is fine."""
  if not exists(path):
    return
  if not is_remote(path):
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    return
  with _remote(path) as gfile:
    (gfile.rmtree if gfile.isdir(os.fspath(path)) else gfile.remove)(os.fspath(path))


@contextlib.contextmanager
def locked(folder: Location) -> Iterator[None]:
  """Keeps other processes of this machine out of a folder. A bucket has no locks."""
  if is_remote(folder):
    yield
    return
  with files.locked(files.make_folder(folder)):
    yield


@contextlib.contextmanager
def _remote(path: Location) -> Iterator[Any]:
  """TensorFlow's gfile; what it complains about becomes an InputError that names `path`."""
  import tensorflow as tf

  try:
    yield tf.io.gfile
  except tf.errors.OpError as error:
    reason = " ".join(error.message.split())[:300] or type(error).__name__
    raise InputError(f"cannot use {path}: {reason}") from error
