"""Trained weights by name, as tokenisers' files hold them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

Shapes = Mapping[str, tuple[int, ...]]


def flat(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """By name, as `encoder/first/kernel`; `nested` is the inverse."""
  return {name: np.asarray(leaf) for name, leaf in traverse_util.flatten_dict(params, sep="/").items()}


def nested(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
  return traverse_util.unflatten_dict(dict(weights), sep="/")


def check_shapes(weights: Mapping[str, np.ndarray], expected: Shapes) -> None:
  """Raises ValueError where a weight of `expected` is missing or of another shape."""
  for name, shape in expected.items():
    found = weights[name].shape if name in weights else None
    if found != shape:
      raise ValueError(f"{name} has shape {found}, the settings ask for {shape}")


def rounded(name: str, weight: np.ndarray) -> np.ndarray:
  """float32 of float16 precision. Raises ValueError where a value is not finite in it."""
  with np.errstate(over="ignore"):
    result = np.asarray(weight, np.float16).astype(np.float32)
  if not np.isfinite(result).all():
    raise ValueError(f"{name} has values that are not finite in float16")
  return result
