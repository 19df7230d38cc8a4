"""Code books fitted to a stream: as good as scikit-learn's, whatever the stream is cut into; bad input."""

import functools

import numpy as np
import pytest
from sklearn.cluster import KMeans

from singsong_jax.errors import InputError
from singsong_jax.semantics import quantizer
from singsong_jax.semantics.quantizer import (
  FeatureQuantizer,
  Moments,
  accumulate,
  fit_quantizer,
  merge,
  update,
)


def features(count=6000, dims=8, blobs=40, seed=0):
  """Overlapping blobs, far from zero and of different spread in each dimension."""
  rng = np.random.default_rng(seed)
  vectors = 3 * rng.normal(size=(blobs, dims))[rng.integers(blobs, size=count)] + rng.normal(
    size=(count, dims)
  )
  return (vectors * np.geomspace(0.01, 10, dims) + 50).astype(np.float32)


def stream(vectors, size):
  return lambda: (vectors[start : start + size] for start in range(0, len(vectors), size))


def inertia(fitted: FeatureQuantizer, vectors):
  normalised = fitted.normalise(vectors)
  return np.square(normalised - fitted.centroids[fitted.encode(vectors)]).sum(dtype=np.float64)


@pytest.mark.parametrize("subset", [6000, 500])
def test_inertia_is_scikit_learns(subset):
  vectors = features()
  fitted = fit_quantizer(stream(vectors, 700), 64, seed=0, subset=subset)
  reference = KMeans(64, n_init=3, random_state=0).fit(fitted.normalise(vectors))
  assert fitted.centroids.shape == (64, 8) and fitted.centroids.dtype == np.float32
  assert len(np.unique(fitted.encode(vectors))) == 64
  assert inertia(fitted, vectors) < 1.02 * reference.inertia_


def test_features_are_normalised_by_dimension_over_all_of_them():
  vectors = features()
  fitted = fit_quantizer(stream(vectors, 1000), 8, seed=0)
  np.testing.assert_allclose(fitted.mean, vectors.mean(axis=0, dtype=np.float64), rtol=1e-6)
  np.testing.assert_allclose(fitted.normalise(vectors).std(axis=0), 1, rtol=1e-3)
  codes = fitted.encode(vectors[:6].reshape(2, 3, 8))
  assert codes.shape == (2, 3) and codes.dtype == np.int32
  brute = np.square(fitted.normalise(vectors[:6])[:, None] - fitted.centroids).sum(axis=-1).argmin(axis=1)
  np.testing.assert_array_equal(codes.reshape(-1), brute)


def test_moments_do_not_depend_on_order_and_cuts():
  vectors = features()
  whole = Moments.of(vectors)
  shuffled = np.random.default_rng(1).permutation(vectors)
  parts = functools.reduce(Moments.merge, map(Moments.of, np.split(shuffled, [1, 2, 500, 4000])))
  assert parts.count == whole.count == 6000
  np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-9)
  np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-9)
  np.testing.assert_allclose(whole.scale(), 1 / vectors.std(axis=0, dtype=np.float64), rtol=1e-9)


def test_the_fit_depends_on_the_seed_and_hardly_on_order_and_cuts():
  vectors = features()
  fit = lambda batches, seed=0: fit_quantizer(batches, 32, seed=seed, subset=1000)
  once, again, cut = fit(stream(vectors, 900)), fit(stream(vectors, 900)), fit(stream(vectors, 77))
  np.testing.assert_array_equal(once.centroids, again.centroids)
  np.testing.assert_allclose(once.centroids, cut.centroids, atol=1e-3)
  assert np.abs(fit(stream(vectors, 900), seed=1).centroids - once.centroids).max() > 0.1
  reversed_ = fit(stream(vectors[::-1], 900))
  np.testing.assert_allclose(inertia(reversed_, vectors), inertia(once, vectors), rtol=0.05)


def test_halves_merge_into_the_whole():
  vectors = features(1000)
  centroids = vectors[:16]
  whole = accumulate(vectors, centroids)
  halves = merge(accumulate(vectors[:300], centroids), accumulate(vectors[300:], centroids))
  np.testing.assert_array_equal(halves.counts, whole.counts)
  np.testing.assert_allclose(halves.sums, whole.sums, rtol=1e-12)
  np.testing.assert_allclose(halves.inertia, whole.inertia, rtol=1e-12)
  np.testing.assert_array_equal(halves.far, whole.far)
  np.testing.assert_allclose(update(halves), update(whole), rtol=1e-6)


def test_an_empty_cluster_moves_to_what_is_farthest_off():
  vectors = np.float32([[0, 0], [0, 2], [9, 9], [0, 1]])
  centroids = np.float32([[0, 1], [100, 100], [200, 200]])
  moved = update(merge(accumulate(vectors[:2], centroids), accumulate(vectors[2:], centroids)))
  np.testing.assert_array_equal(moved[1], [9, 9])
  np.testing.assert_array_equal(moved[0], [2.25, 3])


def test_a_constant_dimension_is_left_out():
  vectors = features(500)
  vectors[:, 3] = 0.1
  fitted = fit_quantizer(stream(vectors, 100), 8, seed=0)
  assert fitted.scale[3] == 0 and np.isfinite(fitted.centroids).all()
  assert len(np.unique(fitted.encode(vectors))) == 8


def test_fewer_distinct_features_than_codes():
  fitted = fit_quantizer(stream(np.repeat(features(5), 4, axis=0), 7), 8, seed=0)
  assert np.isfinite(fitted.centroids).all()
  assert inertia(fitted, features(5)) < 1e-6


def test_the_subset_is_a_fair_draw():
  """Every part of the stream has its share, and cuts do not matter."""
  vectors = np.arange(20_000, dtype=np.float32)[:, None]
  draw = lambda size: quantizer._first_pass(stream(vectors, size)(), 1000, np.random.default_rng(3))[1][:, 0]
  np.testing.assert_array_equal(draw(20_000), draw(333))
  shares = np.histogram(draw(333), bins=4, range=(0, 20_000))[0]
  assert len(set(draw(333))) == 1000 and shares.min() > 200 and shares.max() < 300


def test_bad_features():
  with pytest.raises(InputError, match="7 frames of features are fewer than the 8 codes"):
    fit_quantizer(stream(features(7), 4), 8, seed=0)
  with pytest.raises(InputError, match="no frame of features to fit 8 codes"):
    fit_quantizer(lambda: iter(()), 8, seed=0)
  for value in (np.nan, np.inf):
    vectors = features(100)
    vectors[42, 1] = value
    with pytest.raises(InputError, match="frame 42 of the features is NaN or infinite"):
      fit_quantizer(stream(vectors, 30), 8, seed=0)
