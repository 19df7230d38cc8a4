"""Where generated tokens are kept: on disk, so that a run that was killed goes on where it was.

A song held in memory keeps them in a plain `dict`.
"""

import json
import pathlib
import shutil
import sys
from typing import Any, Protocol

import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError

_SETTINGS = "settings.json"


class TokenStore(Protocol):
  """Arrays by name."""

  def __contains__(self, name: str) -> bool: ...

  def __getitem__(self, name: str) -> np.ndarray: ...

  def __setitem__(self, name: str, array: np.ndarray) -> None: ...


class FolderStore:
  """One file an array, each written in one rename.

  Arrays of an earlier run stay if it had the same `settings`; else they are deleted, which is said.

  Args:
    folder: nothing else may be kept there.
    settings: JSON; everything the arrays depend on.

  Raises:
    InputError: the folder cannot be written.
  """

  def __init__(self, folder: pathlib.Path, settings: dict[str, Any]):
    self.folder = folder
    settings = json.loads(json.dumps(settings))  # as they are when read again
    earlier = _earlier_settings(folder)
    if earlier == settings:
      _say(f"going on with what an earlier run left in {folder}")
      return
    if earlier:
      differing = sorted(k for k in settings.keys() | earlier.keys() if settings.get(k) != earlier.get(k))
      _say(f"starting over: {folder} was left by a run with another {', '.join(differing)}")
    _remove(folder)
    files.make_folder(folder)
    files.write_json(folder / _SETTINGS, settings)

  def __contains__(self, name: str) -> bool:
    return self._path(name).exists()

  def __getitem__(self, name: str) -> np.ndarray:
    try:
      return np.load(self._path(name), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
      raise InputError(f"cannot read {self._path(name)}: {error}; delete {self.folder}") from error

  def __setitem__(self, name: str, array: np.ndarray) -> None:
    with files.replacing(self._path(name)) as temporary:
      np.save(temporary, array)

  def delete(self) -> None:
    _remove(self.folder)

  def _path(self, name: str) -> pathlib.Path:
    return self.folder / f"{name}.npy"


def _earlier_settings(folder: pathlib.Path) -> dict[str, Any] | None:
  try:
    settings = files.read_json(folder / _SETTINGS)
  except InputError:  # none, or killed before they were written
    return None
  return settings if isinstance(settings, dict) else None


def _remove(folder: pathlib.Path) -> None:
  try:
    if folder.exists():
      shutil.rmtree(folder)
  except OSError as error:
    raise InputError(f"cannot delete {folder}: {error.strerror}") from error


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
