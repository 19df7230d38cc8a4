"""Fréchet distance between two sets of embeddings: FAD (Kilgour et al. 2019; SingSong §4.3), whatever embeds.

    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½

The root is taken by eigenvalues of symmetric matrices in float64: no complex numbers, and fewer vectors than
dimensions are fine. Small sets come out too far apart: always report N, and what half of the reference has
against the other half.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from singsong_jax.errors import InputError

MIN_VECTORS = 2
_ROWS = 65_536


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """Mean `[d]` and covariance `[d, d]` of embeddings, float64."""

  mean: np.ndarray
  covariance: np.ndarray

  @classmethod
  def of(cls, embeddings: np.ndarray) -> "Gaussian":
    """Of vectors, float `[n, d]`.

    Raises:
      InputError: fewer than two vectors, or some that are not finite.
    """
    check(embeddings)
    mean = embeddings.mean(axis=0, dtype=np.float64)
    squares = np.zeros((len(mean), len(mean)))
    for start in range(0, len(embeddings), _ROWS):  # in parts: MERT has 75 vectors a second
      part = embeddings[start : start + _ROWS] - mean
      squares += part.T @ part
    return cls(mean, squares / (len(embeddings) - 1))

  @functools.cached_property
  def root(self) -> np.ndarray:
    """The symmetric square root of the covariance; eigenvalues below 0 are from rounding."""
    values, vectors = np.linalg.eigh(self.covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def check(embeddings: np.ndarray) -> None:
  """Raises InputError unless `embeddings` is `[n ≥ 2, d]` and finite."""
  if embeddings.ndim != 2 or len(embeddings) < MIN_VECTORS:
    raise InputError(
      f"embeddings have shape {embeddings.shape}; a covariance takes [n, d] with n ≥ {MIN_VECTORS}"
    )
  if not np.isfinite(embeddings).all():
    raise InputError(f"{(~np.isfinite(embeddings)).any(axis=1).sum()} embeddings are not finite")


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
  """d², at least 0; soonest where `other` is the same for many. Raises InputError where dimensions differ."""
  if one.mean.shape != other.mean.shape:
    raise InputError(f"embeddings of {len(one.mean)} and of {len(other.mean)} dimensions cannot be compared")
  product = np.linalg.eigvalsh(other.root @ one.covariance @ other.root)
  traces = np.trace(one.covariance) + np.trace(other.covariance)
  shift = np.sum(np.square(one.mean - other.mean))
  return float(max(0.0, shift + traces - 2 * np.sum(np.sqrt(np.maximum(product, 0)))))


def check_halves(clips: int) -> None:
  """Raises InputError for so few clips that halves of them have no covariance."""
  if clips < 2 * MIN_VECTORS:
    raise InputError(
      f"{clips} clips cannot be halved for a floor; at least {2 * MIN_VECTORS} are needed, and those of one "
      "song count once"
    )


def split_half_floor(clips: Sequence[np.ndarray], seed: int = 0, draws: int = 10) -> float:
  """What one half of the clips has against the other, on average: what no system can be expected to beat.

  Args:
    clips: embeddings of each clip, float `[n, d]`; clips are split, not vectors, which are alike within a
    clip.
  """
  check_halves(len(clips))
  rng, half = np.random.default_rng(seed), len(clips) // 2
  found = []
  for _ in range(draws):
    order = rng.permutation(len(clips))
    one, other = (
      Gaussian.of(np.concatenate([clips[i] for i in part])) for part in (order[:half], order[half : 2 * half])
    )
    found.append(frechet_distance(one, other))
  return float(np.mean(found))


def bootstrap_interval(
  clips: Sequence[np.ndarray], reference: Gaussian, seed: int = 0, draws: int = 1_000, level: float = 0.95
) -> tuple[float, float]:
  """The interval that the distance to `reference` has, had other clips of their kind been drawn.

  Clips are drawn with replacement, not vectors. Drawn sets hold fewer different clips, which moves distances
  up; so the percentiles are taken of the differences to the distance of all clips ("basic" bootstrap).

  Args:
    clips: embeddings of each clip, float `[n, d]`.
  """
  moments = _Moments(clips)
  whole = frechet_distance(moments.of(np.arange(len(clips))), reference)
  rng = np.random.default_rng(seed)
  drawn = [
    frechet_distance(moments.of(rng.integers(len(clips), size=len(clips))), reference) for _ in range(draws)
  ]
  low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
  return max(0.0, 2 * whole - float(high)), max(0.0, 2 * whole - float(low))


class _Moments:
  """Number, sum `[d]` and sum of outer products `[d, d]` of each clip's vectors, less the mean of all.

  The products are float32, as there are `[clips, d, d]` of them: gigabytes with MERT's 768 dimensions.
  """

  def __init__(self, clips: Sequence[np.ndarray]):
    self._counts = np.array([len(clip) for clip in clips])
    self._mean = sum(clip.sum(axis=0, dtype=np.float64) for clip in clips) / self._counts.sum()
    size = len(self._mean)
    self._sums, self._squares = np.empty((len(clips), size)), np.empty((len(clips), size, size), np.float32)
    for i, clip in enumerate(clips):
      vectors = np.asarray(clip, np.float64) - self._mean
      self._sums[i], self._squares[i] = vectors.sum(axis=0), vectors.T @ vectors

  def of(self, chosen: np.ndarray) -> Gaussian:
    """Of the vectors of some clips, int `[…]`, with repetitions."""
    weights = np.bincount(chosen, minlength=len(self._counts))
    number = weights @ self._counts
    mean = weights @ self._sums / number
    squares = np.tensordot(weights.astype(np.float32), self._squares, axes=1).astype(np.float64)
    return Gaussian(mean + self._mean, (squares - number * np.outer(mean, mean)) / (number - 1))


def frechet_at_infinity(
  embeddings: np.ndarray, reference: Gaussian, seed: int = 0, points: int = 25, fewest: int = 500
) -> float:
  """FAD∞ (Gui et al. 2024): what the distance tends to with more vectors.

  It is measured with n vectors drawn with replacement, n from `fewest` to all, and extended to 1/n = 0 along
  a line.

  Args:
    embeddings: float `[n, d]`.

  Raises:
    InputError: there are not more than `fewest`.
  """
  check(embeddings)
  if len(embeddings) <= fewest:
    raise InputError(f"FAD∞ takes more than {fewest} embeddings, found {len(embeddings)}")
  rng = np.random.default_rng(seed)
  sizes = np.linspace(fewest, len(embeddings), points).astype(int)
  found = [
    frechet_distance(Gaussian.of(embeddings[rng.integers(len(embeddings), size=size)]), reference)
    for size in sizes
  ]
  return float(np.polynomial.polynomial.polyfit(1 / sizes, found, 1)[0])
