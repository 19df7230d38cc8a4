"""A trained model as one small file, for those who play with it: parameters alone, in half precision.

<folder>/model.json                 system.describe()
<folder>/parameters.safetensors     float16, named as in the parameter tree; `step` in its metadata
<folder>/tokenizers/                as in a model directory
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training.descriptions import MODEL_FILE, write_description

FILE = "parameters.safetensors"


def write_exported(folder: str | os.PathLike, system: System, params: Any, step: int) -> pathlib.Path:
  """Writes `model.json` and the parameters.

  Raises:
    InputError: a value that half precision cannot hold, or a folder that cannot be written.
  """
  import safetensors.numpy  # what trains does not need it

  folder = files.make_folder(folder)
  arrays = {}
  for name, leaf in flax.traverse_util.flatten_dict(params, sep="/").items():
    array = np.asarray(leaf)
    with np.errstate(over="ignore"):
      arrays[name] = np.ascontiguousarray(array.astype(np.float16))
    if not np.isfinite(arrays[name]).all():
      raise InputError(f"parameter {name} reaches {np.abs(array).max():g}: float16 ends at 65504")
  write_description(folder, system)
  path = folder / FILE
  with files.replacing(path) as temporary:
    safetensors.numpy.save_file(arrays, temporary, metadata={"step": str(step)})
  return path


def load_exported(
  folder: str | os.PathLike, build_system: Callable[[dict[str, Any]], System]
) -> tuple[System, Any, int]:
  """Inverse of `write_exported`: (system, float32 parameters on the first device, step).

  Raises:
    InputError: a missing or damaged file, or arrays that do not fit `model.json`.
  """
  system = build_system(files.read_json(pathlib.Path(folder) / MODEL_FILE))
  wanted = nn.unbox(jax.eval_shape(system.init, jax.random.key(0)))
  return system, *read_parameters(folder, wanted)


def read_parameters(folder: str | os.PathLike, wanted: Any) -> tuple[Any, int]:
  """A tree like `wanted`, of its types and, where it has them, shardings; and the step.

  Raises:
    InputError: a missing or damaged file, or arrays of other names or shapes.
  """
  import safetensors

  path = pathlib.Path(folder) / FILE
  try:
    with safetensors.safe_open(path, "numpy") as stored:
      arrays = {name: stored.get_tensor(name) for name in stored.keys()}
      step = int((stored.metadata() or {})["step"])
  except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
    raise InputError(f"{path} cannot be read: {error!r}") from error
  flat = flax.traverse_util.flatten_dict(wanted, sep="/")
  for name in sorted(flat.keys() | arrays.keys()):
    shapes = [tree[name].shape if name in tree else None for tree in (arrays, flat)]
    if shapes[0] != shapes[1]:
      raise InputError(f"{path}: {name} has shape {shapes[0]}, the model wants {shapes[1]}")
  placed = {
    name: jax.device_put(arrays[name].astype(like.dtype), getattr(like, "sharding", None))
    for name, like in flat.items()
  }
  return flax.traverse_util.unflatten_dict(placed, sep="/"), step


def is_exported(folder: str | os.PathLike) -> bool:
  """Whether a folder holds an exported model rather than a training run's checkpoints."""
  return (pathlib.Path(folder) / FILE).is_file()
