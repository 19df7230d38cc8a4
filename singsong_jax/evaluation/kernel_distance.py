"""Kernel audio distance, KAD (Chung et al. 2025): an unbiased distance between two sets of embeddings.

The squared maximum mean discrepancy under a Gaussian kernel exp(−|x − y|² / 2σ²), σ the median distance
between vectors of the reference, × 100. Unlike Fréchet's it does not depend on how many vectors there are;
it can be a little below 0, and is not symmetric, as σ is the reference's.

Time and memory go with the square of their number, so that of more than `MOST_VECTORS` so many are drawn: an
unbiased estimate stays one.
"""

import numpy as np

from singsong_jax.errors import InputError
from singsong_jax.evaluation.frechet import check

SCALE = 100.0
MOST_VECTORS = 10_000  # of each set
_ROWS = 1_024  # of a block of distances


def kernel_audio_distance(embeddings: np.ndarray, reference: np.ndarray, seed: int = 0) -> float:
  """KAD of float `[n, d]` to a reference `[m, d]`. `seed` is of what is drawn from large sets.

  Raises:
    InputError: fewer than two vectors, some that are not finite, other dimensions, or a reference that is
    all alike.
  """
  for vectors in (embeddings, reference):
    check(vectors)
  if embeddings.shape[1] != reference.shape[1]:
    raise InputError(
      f"embeddings of {embeddings.shape[1]} and of {reference.shape[1]} dimensions cannot be compared"
    )
  found, known = (
    np.asarray(
      _drawn(vectors, (seed, i)), np.float64
    )  # not the same places of both: songs are the same there
    for i, vectors in enumerate((embeddings, reference))
  )
  sigma = median_distance(known)
  if sigma == 0:
    raise InputError("most vectors of the reference are equal: their median distance is 0")
  within = [
    _kernel_sum(x, x, sigma) - len(x) for x in (found, known)
  ]  # without a vector's kernel with itself
  pairs = [len(x) * (len(x) - 1) for x in (found, known)]
  between = _kernel_sum(found, known, sigma) / (len(found) * len(known))
  return SCALE * float(within[0] / pairs[0] + within[1] / pairs[1] - 2 * between)


def _drawn(vectors: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
  if len(vectors) <= MOST_VECTORS:
    return vectors
  return vectors[np.random.default_rng(seed).choice(len(vectors), MOST_VECTORS, replace=False)]


def median_distance(vectors: np.ndarray) -> float:
  """The median of the distances between different vectors of `[n, d]`."""
  distances = [
    np.sqrt(_squared(vectors[start : start + _ROWS], vectors)[_above(start, len(vectors))])
    for start in range(0, len(vectors), _ROWS)
  ]
  return float(np.median(np.concatenate(distances)))


def _above(start: int, number: int) -> np.ndarray:
  """Mask `[rows, number]`: each pair once, none with itself."""
  rows = np.arange(start, min(start + _ROWS, number))
  return rows[:, None] < np.arange(number)


def _kernel_sum(one: np.ndarray, other: np.ndarray, sigma: float) -> float:
  blocks = (one[start : start + _ROWS] for start in range(0, len(one), _ROWS))
  return sum(float(np.exp(-_squared(block, other) / (2 * sigma**2)).sum()) for block in blocks)


def _squared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Squared distances `[n, m]`."""
  squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
  return np.maximum(squares, 0)
