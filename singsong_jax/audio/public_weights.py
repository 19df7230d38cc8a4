"""Weights that others published: where they lie, and what they are.

A source is a folder, or `owner/name` or `owner/name@revision` on the Hugging Face hub. A folder is read where
it is, without the network. A hub's files come through `huggingface_hub`, into and from its own cache
(`HF_HOME`; `HF_HUB_OFFLINE=1` keeps it from asking). A tokeniser's file holds no weights but their source and
SHA-256.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import pathlib
import re
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Self

from singsong_jax import files
from singsong_jax.audio.fitted_file import FittedFile
from singsong_jax.errors import InputError

_HUB_ID = re.compile(r"(?P<name>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
SAFETENSORS = ("model.safetensors",)
# The first that is there; an index names its shards.
TORCH_WEIGHTS = (
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicWeights:
  """Published weights on this machine.

  Attributes:
    source: absolute path of a folder, or `owner/name` on the hub.
    revision: commit on the hub; None for a folder.
    folder: where the files are.
    names: the files that codes depend on: configuration first, then weights.
  """

  source: str
  revision: str | None
  folder: pathlib.Path
  names: tuple[str, ...]

  @functools.cached_property
  def sha256(self) -> str:
    """SHA-256 (hex) of the files' names and content."""
    digest = hashlib.sha256()
    for name in self.names:
      digest.update(f"{name}\n".encode())
      with open(self.folder / name, "rb") as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()

  def read_json(self, name: str) -> dict[str, Any]:
    """A file of the folder. Raises InputError where it is missing or no JSON object."""
    value = files.read_json(self.folder / name)
    if not isinstance(value, dict):
      raise InputError(f"{self.folder / name} holds a {type(value).__name__}; expected a JSON object")
    return value

  def check_class(self, expected: Sequence[str], name: str = "config.json") -> dict[str, Any]:
    """The configuration. Raises InputError where its `model_type` is not one of `expected`."""
    config = self.read_json(name)
    if config.get("model_type") not in expected:
      raise InputError(
        f"{self.folder / name} is of a model of type {config.get('model_type')!r}; "
        f"expected {' or '.join(map(repr, expected))}"
      )
    return config

  def describe(self) -> dict[str, Any]:
    """Where they come from, as JSON: `source` of a tokeniser's file."""
    return {"weights": self.source, "revision": self.revision, "files": list(self.names)}

  @classmethod
  def from_file(cls, file: FittedFile) -> Self:
    """The weights a tokeniser's file was made with.

    Raises:
      InputError: they are not there any more, or other ones.
    """
    source, revision = file.source["weights"], file.source["revision"]
    try:
      folder = _folder(source, revision, file.source["files"])[0]
      weights = cls(source=source, revision=revision, folder=folder, names=tuple(file.source["files"]))
      found = weights.sha256
    except OSError as error:
      raise InputError(
        f"{error.filename} is gone: this {file.kind!r} tokeniser needs the weights it was made with"
      ) from error
    if found != file.settings["sha256"]:
      raise InputError(
        f"the weights in {folder} have changed: this {file.kind!r} tokeniser was made with those of SHA-256 "
        f"{file.settings['sha256'][:12]}, found {found[:12]}"
      )
    return weights


def locate(source: str | os.PathLike, configs: Sequence[str], weights: Sequence[str]) -> PublicWeights:
  """Finds published weights, on the hub or in a folder.

  Args:
    configs: files that must be there.
    weights: files, of which one must be there: the first that is, is taken. An index stands for its shards.

  Raises:
    InputError: no such folder or name on the hub, or a file is missing.
  """
  match = _HUB_ID.fullmatch(str(source))
  if match and not os.path.exists(source):
    name, revision = match["name"], match["revision"]
  else:
    name, revision = str(pathlib.Path(source).expanduser().absolute()), None
  for weight in weights:  # one after the other: a hub may have the same weights in several formats
    folder, revision = _folder(name, revision, [*configs, weight, *_shards(weight)])
    absent = [config for config in configs if not (folder / config).is_file()]
    if absent:
      raise InputError(f"{folder} lacks {', '.join(absent)}; expected the folder of a published model")
    if (folder / weight).is_file():
      names = (*configs, weight, *_indexed(folder / weight))
      return PublicWeights(source=name, revision=revision, folder=folder, names=names)
  raise InputError(f"{folder} has none of {', '.join(weights)}; expected the folder of a published model")


def _folder(source: str, revision: str | None, patterns: Sequence[str]) -> tuple[pathlib.Path, str | None]:
  """The folder of a source, and the commit on the hub."""
  if os.path.isabs(source):
    if not os.path.isdir(source):
      raise InputError(f"the folder of weights {source} does not exist; download them into it first")
    return pathlib.Path(source), None
  hub = import_extra("huggingface_hub", "hub", f"{source} is a name on the Hugging Face hub, which")
  try:
    folder = pathlib.Path(hub.snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
  except (OSError, ValueError, RuntimeError) as error:  # its own errors are of these types
    reason = " ".join(str(error).split())[:300]
    raise InputError(
      f"cannot get {source} from the hub: {reason}; download it elsewhere and give its folder"
    ) from error
  return folder, folder.name


def _shards(name: str) -> list[str]:
  stem, _, rest = name.partition(".")
  return [f"{stem}-*.{rest.removesuffix('.index.json')}"] if name.endswith(".index.json") else []


def _indexed(path: pathlib.Path) -> list[str]:
  """The shards an index names; none of another file."""
  if not path.name.endswith(".index.json"):
    return []
  return sorted(set(json.loads(path.read_text())["weight_map"].values()))


def import_extra(module: str, extra: str, what: str) -> ModuleType:
  """Imports a module that an extra brings.

  Args:
    what: needs it: the start of the message.

  Raises:
    InputError: it is not installed, or does not work with what is.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", DeprecationWarning)  # what a package does is not the user's to change
      return importlib.import_module(module)
  except ImportError as error:
    raise InputError(
      f"{what} needs the package {module} ({error}): pip install 'singsong_jax[{extra}]'"
    ) from error
