"""From features to codes: zero mean and unit variance per dimension, then the nearest of k centroids.

Features of a whole corpus need not fit into memory, so all is fitted to a stream: a pass for mean and
variance, which also draws a subset; k-means of the subset; from there Lloyd's algorithm over the stream.

A pass is a sum over its vectors. Several workers may each go through a part with `Moments.of` or
`accumulate`; the parts are put together with `merge`, and `update` makes the next centroids.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse
import threadpoolctl

from singsong_jax.audio import kmeans
from singsong_jax.errors import InputError

_BATCH_FRAMES = 8192
_TOLERANCE = 1e-4  # Lloyd's algorithm ends where a pass lowers the inertia by less than this share
_VARIES = 1e-6  # standard deviation, as a share of the mean, below which a dimension is rounding alone


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FeatureQuantizer:
  """Normalisation and code book.

  Attributes:
    mean, scale: float32 `[d]`; normalised = (features − mean) · scale.
    centroids: float32 `[k, d]`, of normalised features.
  """

  mean: np.ndarray
  scale: np.ndarray
  centroids: np.ndarray

  def encode(self, features: np.ndarray) -> np.ndarray:
    """float `[..., d]` to int32 `[...]`: the nearest centroid, by Euclid."""
    return kmeans.nearest_centroid(self.normalise(features), self.centroids)

  def normalise(self, features: np.ndarray) -> np.ndarray:
    """Normalised features, float32."""
    return (np.asarray(features, np.float32) - self.mean) * self.scale


class Moments(NamedTuple):
  """Of vectors, in float64.

  Attributes:
    count: of vectors.
    mean: `[d]`.
    squares: summed squares of the distance from the mean `[d]`.
  """

  count: int
  mean: np.ndarray
  squares: np.ndarray

  @classmethod
  def of(cls, vectors: np.ndarray) -> Self:
    """`vectors`: float `[n, d]`, n ≥ 1."""
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(axis=0)
    return cls(len(vectors), mean, np.square(vectors - mean).sum(axis=0))

  def merge(self, other: "Moments") -> "Moments":
    """Of both sets of vectors (Chan et al. 1979)."""
    count = self.count + other.count
    apart, share = other.mean - self.mean, other.count / count
    squares = self.squares + other.squares + np.square(apart) * (self.count * share)
    return Moments(count, self.mean + apart * share, squares)

  def scale(self) -> np.ndarray:
    """1 / standard deviation, and 0 for a dimension that is constant: float64 `[d]`."""
    deviation = np.sqrt(self.squares / self.count)
    varies = deviation > _VARIES * np.abs(self.mean)
    return np.divide(1.0, deviation, where=varies, out=np.zeros_like(deviation))


class Clusters(NamedTuple):
  """What a pass of Lloyd's algorithm knows of the vectors it has seen.

  Attributes:
    counts: vectors of each centroid, int64 `[k]`.
    sums: of these vectors, float64 `[k, d]`.
    inertia: summed squared distance to their centroids.
    far: the vectors farthest from their centroids, the farthest first, float32 `[≤ k, d]`.
    distances: of `far`, squared, float32 `[≤ k]`.
  """

  counts: np.ndarray
  sums: np.ndarray
  inertia: float
  far: np.ndarray
  distances: np.ndarray


def accumulate(vectors: np.ndarray, centroids: np.ndarray) -> Clusters:
  """Assigns normalised vectors `[n, d]` to the nearest of the centroids `[k, d]`."""
  codes = kmeans.nearest_centroid(vectors, centroids)
  distances = np.square(vectors - centroids[codes]).sum(axis=1)
  members = scipy.sparse.csr_array(
    (np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(len(centroids), len(codes))
  )
  far = _largest(distances, len(centroids))
  return Clusters(
    np.bincount(codes, minlength=len(centroids)),
    members @ vectors.astype(np.float64),
    float(distances.sum(dtype=np.float64)),
    vectors[far],
    distances[far],
  )


def merge(one: Clusters, other: Clusters) -> Clusters:
  """Of both sets of vectors, assigned to the same centroids."""
  far, distances = np.concatenate([one.far, other.far]), np.concatenate([one.distances, other.distances])
  kept = _largest(distances, len(one.counts))
  return Clusters(
    one.counts + other.counts,
    one.sums + other.sums,
    one.inertia + other.inertia,
    far[kept],
    distances[kept],
  )


def update(clusters: Clusters) -> np.ndarray:
  """The next centroids: means of their vectors. Those without any move to the vectors that are farthest off.

  Returns:
    float32 `[k, d]`.
  """
  centroids = clusters.sums / np.maximum(clusters.counts, 1)[:, None]
  empty = np.flatnonzero(clusters.counts == 0)[: len(clusters.far)]
  centroids[empty] = clusters.far[: len(empty)]
  return centroids.astype(np.float32)


def fit_quantizer(
  batches: Callable[[], Iterable[np.ndarray]],
  num_codes: int,
  *,
  seed: int,
  iterations: int = 20,
  subset: int = 50_000,
) -> FeatureQuantizer:
  """Fits normalisation and code book to a stream that is gone through several times.

  Memory: a batch, the subset, and a few times `num_codes` vectors.

  Args:
    batches: makes the stream, the same each time: float `[n, d]`.
    num_codes: of centroids.
    seed: of the subset and of k-means++.
    iterations: of Lloyd's algorithm, at most; on the subset, then on the stream.
    subset: vectors that the first centroids are found with; at least `num_codes` are taken.

  Raises:
    InputError: no vector, one that is NaN or infinite, or fewer vectors than codes.
  """
  moments, sample = _first_pass(batches(), max(subset, num_codes), np.random.default_rng(seed))
  if moments is None:
    raise InputError(f"there is no frame of features to fit {num_codes} codes to; give audio")
  if moments.count < num_codes:
    raise InputError(
      f"{moments.count} frames of features are fewer than the {num_codes} codes to be fitted; give more "
      "audio, or ask for fewer codes"
    )
  mean, scale = np.float32(moments.mean), np.float32(moments.scale())
  sample = (sample - mean) * scale
  normalised = lambda: ((np.asarray(batch, np.float32) - mean) * scale for batch in batches())
  centroids = _lloyd(lambda: [sample], _first_centroids(sample, num_codes, seed), iterations)
  return FeatureQuantizer(mean=mean, scale=scale, centroids=_lloyd(normalised, centroids, iterations))


@contextlib.contextmanager
def spooled(parts: Iterable[np.ndarray], dims: int, dtype: npt.DTypeLike) -> Iterator[np.ndarray]:
  """All features of `parts`, each `[..., dims]`, one after the other in a temporary file (TMPDIR says where).

  Yields:
    `[frames, dims]` of `dtype`; `batches` makes a stream of it for `fit_quantizer`.
  """
  with tempfile.TemporaryFile() as file:
    for part in parts:
      file.write(np.asarray(part, dtype).tobytes())
    file.flush()
    yield np.memmap(file, dtype, "r").reshape(-1, dims)


def batches(features: np.ndarray) -> Iterator[np.ndarray]:
  """float32 `[≤ 8192, d]`, in order."""
  for start in range(0, len(features), _BATCH_FRAMES):
    yield np.asarray(features[start : start + _BATCH_FRAMES], np.float32)


def _first_pass(
  batches: Iterable[np.ndarray], size: int, rng: np.random.Generator
) -> tuple[Moments | None, np.ndarray]:
  """Moments, and `size` vectors of the stream, each equally likely: float32 `[≤ size, d]`.

  Every vector draws a number, and the smallest `size` are kept, so it does not matter how the stream is cut.
  """
  moments, limit, seen = None, 1.0, 0
  kept: list[tuple[np.ndarray, np.ndarray]] = []
  for batch in batches:
    if not len(batch):
      continue
    if not np.isfinite(batch).all():
      bad = int(np.flatnonzero(~np.isfinite(batch).all(axis=1))[0])
      raise InputError(f"frame {seen + bad} of the features is NaN or infinite; is the network trained?")
    seen += len(batch)
    part = Moments.of(batch)
    moments = part if moments is None else moments.merge(part)
    draws = rng.random(len(batch))
    kept.append((draws[draws < limit], np.asarray(batch[draws < limit], np.float32)))
    if sum(len(numbers) for numbers, _ in kept) > 2 * size:
      kept = [_smallest(kept, size)]
      limit = kept[0][0][-1]
  return moments, _smallest(kept, size)[1] if kept else np.zeros((0, 0), np.float32)


def _smallest(kept: list[tuple[np.ndarray, np.ndarray]], size: int) -> tuple[np.ndarray, np.ndarray]:
  draws, vectors = (np.concatenate(parts) for parts in zip(*kept, strict=True))
  order = np.argsort(draws)[:size]
  return draws[order], vectors[order]


def _first_centroids(sample: np.ndarray, num_codes: int, seed: int) -> np.ndarray:
  from sklearn.cluster import kmeans_plusplus

  # One thread: a thousand small products, for which threads wait longer for each other than they compute.
  with threadpoolctl.threadpool_limits(limits=1):
    return kmeans_plusplus(sample, num_codes, random_state=seed)[0]


def _lloyd(batches: Callable[[], Iterable[np.ndarray]], centroids: np.ndarray, iterations: int) -> np.ndarray:
  """Lloyd's algorithm until the inertia hardly falls."""
  before = np.inf
  for _ in range(iterations):
    clusters = _sum_up(batches(), centroids)
    centroids = update(clusters)
    if clusters.inertia >= (1 - _TOLERANCE) * before and clusters.counts.all():
      break
    before = clusters.inertia
  return centroids


def _sum_up(batches: Iterable[np.ndarray], centroids: np.ndarray) -> Clusters:
  parts: Iterator[Clusters] = (accumulate(batch, centroids) for batch in batches if len(batch))
  total = next(parts)
  for part in parts:
    total = merge(total, part)
  return total


def _largest(values: np.ndarray, count: int) -> np.ndarray:
  """Places of the `count` largest, the largest first; of equals the first one."""
  return np.argsort(-values, kind="stable")[:count]
