"""A TOML file to the cells of a sweep: named, checked, each with the arguments that start it.

model_dir = "runs/table1"               # a cell trains in model_dir/<its name>
data_dir = "DATA"                       # or a table of several, which makes `data` an axis:
data_dir = { filtered = "DATA", unfiltered = "DATA_UNFILTERED" }
arguments = ["--multiprocess"]          # further ones, of all cells

[fixed]                                 # what all cells have
run = "train"                           # an axis of gin/, as run_train.sh takes them
total_steps = 200_000                   # needed: says when a cell is done
"adafactor.decay_rate" = 0.8            # any gin parameter or MACRO

[axes]                                  # the product of these
vocals = ["clean", "noisy"]
features = ["s_sa", "sa_sa"]
seed = [0, 1]

[[exclude]]                             # leaves out what has all of these values; a list means any of them
vocals = "clean"
features = ["s_sa"]

[evaluate]                              # flags of singsong_jax.evaluate: sweeps/evaluations.py
songs = "musdb_test"

[[cells]]                               # one more cell; an axis with a single value need not be said again
vocals = "noisy"
features = "s_sa"
size = "xl"
"""

import dataclasses
import itertools
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from singsong_jax import files
from singsong_jax.errors import InputError, did_you_mean

ROOT = pathlib.Path(__file__).parent.parent.parent
DEFAULT_SYSTEM = "singsong"  # as in run_train.sh


def _all(values: Any, kind: type) -> bool:
  return all(isinstance(value, kind) for value in values)


# What a part of a file must be: in words, and as a test.
_TABLE = "a table", lambda x: isinstance(x, dict)
_TABLES = "tables, each under [[…]]", lambda x: isinstance(x, list) and _all(x, dict)
_STRING = "a string", lambda x: isinstance(x, str)
_STRINGS = "a list of strings", lambda x: isinstance(x, list) and _all(x, str)
_FOLDERS = (
  "a string or a table of strings",
  lambda x: isinstance(x, str) or (isinstance(x, dict) and _all(x.values(), str)),
)
_PARTS = {
  "model_dir": _STRING,
  "data_dir": _FOLDERS,
  "launcher": _STRINGS,
  "arguments": _STRINGS,
  "fixed": _TABLE,
  "axes": _TABLE,
  "cells": _TABLES,
  "exclude": _TABLES,
  "slurm": _TABLE,
  "evaluate": _TABLE,
  "evaluator": _STRINGS,
}
_ALIASES = {"seed": "SEED", "total_steps": "TRAIN_STEPS"}  # names for people → macros of gin/run
_RESERVED = {"MODEL_DIR", "DATA_DIR", *_ALIASES.values()}
_IN_A_NAME = re.compile(r"[\w.+-]+")

Values = dict[str, Any]  # setting → value


@dataclasses.dataclass(frozen=True)
class Cell:
  """One training run, or the evaluation of one.

  Attributes:
    name: `axis=value,…`; its folder's name.
    arguments: of the launcher, `./run_train.sh` by default.
    total_steps: done when a checkpoint of this step exists.
    result: done when this file exists, in place of a checkpoint.
  """

  name: str
  model_dir: pathlib.Path
  arguments: tuple[str, ...]
  total_steps: int
  result: str | None = None


@dataclasses.dataclass(frozen=True)
class Sweep:
  """All cells of a file.

  Attributes:
    name: the file's.
    launcher: the command that the arguments complete; run in the repository's root.
    arguments: of all cells.
    slurm: options of sbatch.
    evaluate: flags of `singsong_jax.evaluate`.
    evaluator: the command that they complete.
  """

  name: str
  model_dir: pathlib.Path
  cells: tuple[Cell, ...]
  launcher: tuple[str, ...] = ("./run_train.sh",)
  arguments: tuple[str, ...] = ()
  slurm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  evaluate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  evaluator: tuple[str, ...] = (".venv/bin/python", "-m", "singsong_jax.evaluate")

  def command(self, cell: Cell) -> list[str]:
    return [*self.launcher, *cell.arguments, *self.arguments]


def load_sweep(path: str, model_dir: str | None = None, data_dirs: Mapping[str, str] | None = None) -> Sweep:
  """Reads a sweep.

  Args:
    path: of the TOML file.
    model_dir: in place of the file's.
    data_dirs: name → path, in place of the file's; the name is "" where the file has a single one.

  Raises:
    InputError: no such file, not TOML, an unknown table, setting or value, a cell that occurs twice, an
      exclusion that excludes nothing.
  """
  tables = _read(path)
  tables |= {"model_dir": model_dir} if model_dir else {}
  folders = _data_folders(tables.get("data_dir", {}), data_dirs or {})
  fixed, axes = tables.get("fixed", {}), tables.get("axes", {})
  for key, values in axes.items():
    if not isinstance(values, list) or not values:
      raise InputError(f"{path}: axes.{key} must be a list of values, got {values!r}")
  product = [dict(zip(axes, point)) for point in itertools.product(*axes.values())] if axes else []
  points = _without(product, tables.get("exclude", []), axes) + [
    _extra(values, axes) for values in tables.get("cells", [])
  ]
  if not points:
    raise InputError(f"{path} has no cells; give it [axes] or [[cells]]")
  if not tables.get("model_dir"):
    raise InputError("a sweep needs model_dir = '…', in the file or as --model_dir=…")
  folder = files.local_folder(tables["model_dir"])
  cells = tuple(_cell(point, fixed, axes, folders, folder) for point in points)
  _check_different(cells)
  return Sweep(
    name=pathlib.Path(path).stem,
    model_dir=folder,
    cells=cells,
    launcher=tuple(tables.get("launcher", Sweep.launcher)),
    arguments=tuple(tables.get("arguments", ())),
    slurm=tables.get("slurm", {}),
    evaluate=tables.get("evaluate", {}),
    evaluator=tuple(tables.get("evaluator", Sweep.evaluator)),
  )


def _read(path: str) -> dict[str, Any]:
  try:
    tables = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except OSError as error:
    raise InputError(f"cannot read {path}: {error.strerror}") from error
  except ValueError as error:
    raise InputError(f"{path} is not TOML: {error}") from error
  for key, value in tables.items():
    if key not in _PARTS:
      raise InputError(f"{path}: {key!r} is not part of a sweep{did_you_mean(key, _PARTS)}")
    what, is_valid = _PARTS[key]
    if not is_valid(value):
      raise InputError(f"{path}: {key} must be {what}, got {value!r}")
  return tables


def _data_folders(given: str | dict[str, str], replaced: Mapping[str, str]) -> dict[str, str]:
  """Name → absolute path or address; the name is "" where there is but one."""
  named = {"": given} if isinstance(given, str) else given
  if unknown := sorted(replaced.keys() - named.keys()) if named else []:
    name = unknown[0]
    raise InputError(
      f"--data_dir: the file has {'one folder without a name' if '' in named else 'no ' + repr(name)}"
      f"{did_you_mean(name, named)}; write --data_dir={'PATH' if '' in named else 'NAME=PATH'}"
    )
  named = {**named, **replaced}
  if not named:
    raise InputError("a sweep needs data_dir = '…', in the file or as --data_dir=…")
  return {name: path if "://" in path else str(files.local_folder(path)) for name, path in named.items()}


def _without(points: list[Values], exclusions: list[Values], axes: Mapping[str, list]) -> list[Values]:
  for exclusion in exclusions:
    wanted = {key: value if isinstance(value, list) else [value] for key, value in exclusion.items()}
    for key, values in wanted.items():
      if key not in axes:
        raise InputError(f"exclude: there is no axis {key}{did_you_mean(key, axes)}")
      for value in values:
        if value not in axes[key]:
          near = did_you_mean(str(value), map(str, axes[key]))
          raise InputError(f"exclude: axis {key} has no value {value!r}{near}")
    kept = [point for point in points if any(point[key] not in values for key, values in wanted.items())]
    if len(kept) == len(points):
      raise InputError(f"exclude: {exclusion} leaves nothing out that another exclusion does not")
    points = kept
  return points


def _extra(values: Values, axes: Mapping[str, list]) -> Values:
  point = {}
  for key, choices in axes.items():
    if key not in values and len(choices) > 1:
      raise InputError(f"cells: {values} does not say {key}; choose one of {', '.join(map(str, choices))}")
    point[key] = values.get(key, choices[0])
  return point | values


def _cell(
  point: Values, fixed: Values, axes: Mapping[str, list], folders: Mapping[str, str], model_dir: pathlib.Path
) -> Cell:
  settings = fixed | point
  system = settings.get("system", DEFAULT_SYSTEM)
  for key, value in settings.items():
    _check(key, value, system, folders)
  total_steps = settings.get("total_steps")
  if not isinstance(total_steps, int) or total_steps < 1:
    raise InputError(
      f"total_steps is {total_steps!r}; a sweep needs a whole number, so that it knows what is done"
    )
  if "" not in folders and "data" not in settings:
    raise InputError(f"data is not set, and data_dir has several: choose one of {', '.join(folders)}")
  name = _name({key: value for key, value in point.items() if key in axes or fixed.get(key) != value})
  arguments = [_argument(key, value) for key, value in settings.items() if key != "data"]
  data_dir = folders[settings.get("data", "")]
  return Cell(
    name=name,
    model_dir=model_dir / name,
    arguments=(*arguments, f"--data_dir={data_dir}", f"--model_dir={model_dir / name}"),
    total_steps=total_steps,
  )


def _check(key: str, value: Any, system: str, folders: Mapping[str, str]) -> None:
  """Raises InputError for a setting that run_train.sh does not take, or a value its axis does not have."""
  axes = {path.name for path in (ROOT / "gin").iterdir() if list(path.glob("*.gin"))}
  if key == "data" and "" not in folders:
    choices = set(folders)
  elif key in axes:
    choices = _axis_values(key, system)
  elif key in _RESERVED:
    raise InputError(f"{key}: write {', '.join(_ALIASES)} or model_dir and data_dir in its place")
  elif key in _ALIASES or "." in key or key.isupper():
    return  # gin's business, which knows its names when it has imported them
  else:
    known = axes | _ALIASES.keys() | ({"data"} if "" not in folders else set())
    raise InputError(
      f"{key} is not an axis, nor a gin parameter (function.name), nor a MACRO{did_you_mean(key, known)}; "
      f"the axes are {', '.join(sorted(known))}"
    )
  if not isinstance(value, str) or value not in choices:
    near = did_you_mean(str(value), choices)
    raise InputError(
      f"{key}={value}: there is no such value{near}; choose one of {', '.join(sorted(choices))}"
    )


def _axis_values(axis: str, system: str) -> set[str]:
  """As run_train.sh: the system's own files are all it can choose from."""
  folder = ROOT / "gin" / axis
  own = folder / str(system)
  return {path.stem for path in (own if own.is_dir() else folder).glob("*.gin")}


def _argument(key: str, value: Any) -> str:
  if "." in key or key.isupper() or key in _ALIASES:
    is_reference = isinstance(value, str) and value.startswith(("@", "%"))
    return f"--gin.{_ALIASES.get(key, key)}={value if is_reference else repr(value)}"
  return f"--{key}={value}"


def _name(values: Values) -> str:
  parts = []
  for key, value in values.items():
    if not _IN_A_NAME.fullmatch(str(value)):
      raise InputError(f"{key}={value!r} cannot be part of a folder's name; put it under [fixed]")
    parts.append(f"{key.rpartition('.')[2]}={value}")
  return ",".join(parts)


def _check_different(cells: tuple[Cell, ...]) -> None:
  names = [cell.name for cell in cells]
  for name in names:
    if names.count(name) > 1:
      raise InputError(f"the cell {name or '(the fixed settings)'} occurs {names.count(name)} times")
