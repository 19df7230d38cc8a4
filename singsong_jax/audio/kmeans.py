"""k-means: fitting (scikit-learn) and the nearest centroid."""

import warnings

import numpy as np
import threadpoolctl
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

# Fewer than this many vectors for each centroid and k-means learns the vectors by heart.
MIN_VECTORS_PER_CENTROID = 2


def fit_kmeans(vectors: np.ndarray, num_centroids: int, *, seed: int, iterations: int = 10) -> np.ndarray:
  """Lloyd's algorithm from randomly chosen vectors.

  The same arguments give the same result: one thread, since the order in which threads add up
  their shares is not fixed.

  Args:
    vectors: float `[n, dims]`, finite.
    num_centroids: an upper limit; with few distinct vectors fewer centroids are fitted.
    seed: of the initial choice.
    iterations: of Lloyd's algorithm, at most.

  Returns:
    float32 `[m, dims]`, 1 ≤ m ≤ `num_centroids`.

  Raises:
    ValueError: there is no vector.
  """
  vectors = np.ascontiguousarray(vectors, np.float32)
  distinct = np.unique(vectors, axis=0)
  if not len(distinct):
    raise ValueError("k-means needs at least one vector")
  count = min(num_centroids, max(1, len(distinct) // MIN_VECTORS_PER_CENTROID))
  start = distinct[np.random.default_rng(seed).choice(len(distinct), count, replace=False)]
  # tol=0 would still stop early, without a warning, once no vector changes its centroid.
  model = KMeans(count, init=start, n_init=1, max_iter=iterations, tol=0.0, random_state=seed)
  with threadpoolctl.threadpool_limits(limits=1), warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # a centroid nothing is nearest to does no harm
    return model.fit(vectors).cluster_centers_.astype(np.float32)


def nearest_centroid(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
  """Index of the nearest centroid (Euclid; the first of equals).

  Args:
    vectors: float32 `[..., dims]`.
    centroids: float32 `[k, dims]`.

  Returns:
    int32 `[...]` in `0 … k-1`.
  """
  # argmin |x − c|² = argmax x·c − |c|²/2: the term |x|² is the same for every c.
  closeness = vectors @ centroids.T
  closeness -= 0.5 * np.square(centroids).sum(axis=1)
  return closeness.argmax(axis=-1).astype(np.int32)
