"""What a model directory says its model and its run are, and how that differs from what is asked for."""

import os
import pathlib
from collections.abc import Set
from typing import Any

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System

MODEL_FILE = "model.json"


def write_description(model_dir: pathlib.Path, system: System) -> None:
  """Writes `model.json`, which every later checkpoint depends on."""
  files.write_json(model_dir / MODEL_FILE, system.describe())


def check_description(model_dir: pathlib.Path, system: System) -> None:
  """Raises InputError if `model.json` describes another system; the message lists what differs."""
  path = model_dir / MODEL_FILE
  check_same(files.read_json(path), system.describe(), path)


# Settings of how a model is computed, not of what it computes: they may change from machine to machine.
_HOW = {"network.dtype", "network.remat"}


def check_same(saved: dict[str, Any], wanted: dict[str, Any], where: str | os.PathLike) -> None:
  """Raises InputError listing the settings whose values differ."""
  if differing := differences(saved, wanted):
    raise InputError(
      f"{where} was trained with other settings ({'; '.join(differing)}); give those again, or another "
      "model_dir"
    )


def differences(saved: dict[str, Any], wanted: dict[str, Any], ignored: Set[str] = frozenset()) -> list[str]:
  """What differs besides how the model is computed and the dotted names in `ignored`, for people."""
  old, new = _flat(saved), _flat(wanted)
  names = sorted((old.keys() | new.keys()) - _HOW - ignored)
  return [f"{k} was {old.get(k)!r}, now {new.get(k)!r}" for k in names if old.get(k) != new.get(k)]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  """Nested dictionaries as one with dotted keys; tuples as the lists they are in JSON."""
  if not isinstance(tree, dict):
    return {prefix: list(tree) if isinstance(tree, tuple) else tree}
  flat = {}
  for key, value in tree.items():
    flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
  return flat
