"""One npz file for something fitted to audio: JSON metadata beside named arrays.

    metadata    uint8 [bytes], UTF-8 JSON {"kind", "version", "settings", "source"}
    <name>      the arrays

`kind` says which class reads the file, `settings` are that class's own, `source` tells what it was
fitted on, or where its weights lie (not part of the fingerprint).
"""

import abc
import dataclasses
import hashlib
import importlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError

VERSION = 1
_METADATA_KEYS = {"kind", "version", "settings", "source"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedFile:
  """What one file holds. Keys of `settings` and `source` are strings, values JSON."""

  kind: str
  settings: dict[str, Any]
  source: dict[str, Any]
  arrays: dict[str, np.ndarray]

  def fingerprint(self) -> str:
    """SHA-256 (hex) of kind, settings and arrays: the same before saving and after loading."""
    digest = hashlib.sha256(json.dumps([self.kind, self.settings], sort_keys=True).encode())
    for name, array in sorted(self.arrays.items()):
      digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
      digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

  def save(self, path: str | os.PathLike) -> None:
    """Writes the file in one rename; equal content gives equal bytes."""
    metadata = {"kind": self.kind, "version": VERSION, "settings": self.settings, "source": self.source}
    text = json.dumps(metadata, sort_keys=True).encode()
    with files.replacing(path) as temporary:
      np.savez_compressed(temporary, metadata=np.frombuffer(text, np.uint8), **self.arrays)


class Stored(abc.ABC):
  """What is kept in a `FittedFile`."""

  def save(self, path: str | os.PathLike) -> None:
    """Writes an npz file, in one rename. Raises InputError when it cannot be written."""
    self._file().save(path)

  def fingerprint(self) -> str:
    """SHA-256 (hex) of everything but `source`."""
    return self._file().fingerprint()

  @abc.abstractmethod
  def _file(self) -> FittedFile: ...


def load_fitted_file(path: str | os.PathLike) -> FittedFile:
  """Reads what `FittedFile.save` wrote.

  Raises:
    InputError: the file is missing, damaged, of another program or of another version.
  """
  arrays = _read_arrays(path)
  metadata = _parse_metadata(path, arrays.pop("metadata", None))
  if metadata["version"] != VERSION:
    raise InputError(f"{path} has format version {metadata['version']!r}; this program reads {VERSION}")
  return FittedFile(
    kind=metadata["kind"], settings=metadata["settings"], source=metadata["source"], arrays=arrays
  )


def _read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
  try:
    with open(path, "rb") as stream:  # np.load leaves a damaged file open
      archive = np.load(stream, allow_pickle=False)
      if isinstance(archive, np.ndarray):
        raise InputError(f"{path} holds a single array; expected an npz file of a fitted tokenizer")
      return {name: archive[name] for name in archive.files}
  except FileNotFoundError as error:
    raise InputError(f"{path} does not exist") from error
  except InputError:
    raise
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(f"{path} is not a readable npz file of a fitted tokenizer: {error}") from error


def _parse_metadata(path: str | os.PathLike, encoded: np.ndarray | None) -> dict[str, Any]:
  if encoded is None:
    raise InputError(f"{path} is an npz file without metadata: not a fitted tokenizer")
  try:
    metadata = json.loads(encoded.tobytes())
  except ValueError as error:
    raise InputError(f"the metadata of {path} are not JSON: {error}") from error
  if not isinstance(metadata, dict) or not _METADATA_KEYS <= metadata.keys():
    raise InputError(f"the metadata of {path} lack one of {', '.join(sorted(_METADATA_KEYS))}")
  return metadata


def load_kind(path: str | os.PathLike, kinds: Mapping[str, str], what: str) -> Any:
  """Reads a file and gives it to `from_file` of the class that `kinds` lists for its kind.

  Args:
    kinds: kind → `module:Class`. The module is imported only for a file of its kind: some need libraries that
      are an extra.

  Raises:
    InputError: as `load_fitted_file`, or `kinds` lacks the file's kind, or the content is inconsistent.
  """
  file = load_fitted_file(path)
  if file.kind not in kinds:
    raise InputError(f"{path} holds {file.kind!r}, not a {what}; expected one of {', '.join(kinds)}")
  module, _, name = kinds[file.kind].partition(":")
  try:
    return getattr(importlib.import_module(module), name).from_file(file)
  except InputError:  # not the file's fault: weights it names, or a package
    raise
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f"{path} is a damaged {file.kind!r} file: {error}") from error
