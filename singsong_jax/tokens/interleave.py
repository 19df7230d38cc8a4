"""Frames × levels of acoustic codes to one flat sequence, and back.

frame 0          frame 1          frame 2
q0 q1 q2 q3      q0 q1 q2 q3      q0 …        time-major, level fastest (AudioLM, §III-B)
"""

import numpy as np


def flatten(codes: np.ndarray) -> np.ndarray:
  """`[..., frames, levels]` to `[..., frames·levels]`, level index fastest."""
  return codes.reshape(*codes.shape[:-2], codes.shape[-2] * codes.shape[-1])


def unflatten(sequence: np.ndarray, levels: int) -> np.ndarray:
  """`[..., frames·levels]` to `[..., frames, levels]`.

  Raises:
    ValueError: the length is not a multiple of `levels`.
  """
  length = sequence.shape[-1]
  if length % levels:
    raise ValueError(f"{length} tokens do not divide into frames of {levels} levels")
  return sequence.reshape(*sequence.shape[:-1], length // levels, levels)
