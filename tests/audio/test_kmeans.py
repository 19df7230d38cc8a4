"""k-means: by hand, by seed, and with too few vectors."""

import numpy as np
import pytest

from singsong_jax.audio import kmeans


def test_two_clouds_give_their_means():
  clouds = np.array([[0, 0], [0, 2], [2, 0], [2, 2], [10, 10], [10, 12], [12, 10], [12, 12]], np.float32)
  fitted = kmeans.fit_kmeans(clouds, 2, seed=0)
  np.testing.assert_allclose(fitted[np.argsort(fitted[:, 0])], [[1, 1], [11, 11]], atol=1e-5)


def test_same_seed_same_centroids_other_seed_others():
  vectors = np.random.default_rng(0).normal(size=(500, 6))
  first, again, other = (kmeans.fit_kmeans(vectors, 20, seed=seed) for seed in (3, 3, 4))
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


@pytest.mark.parametrize(("num_vectors", "expected"), [(1, 1), (3, 1), (8, 4), (40, 16)])
def test_few_vectors_give_fewer_centroids(num_vectors, expected):
  vectors = np.random.default_rng(1).normal(size=(num_vectors, 3))
  assert kmeans.fit_kmeans(vectors, 16, seed=0).shape == (expected, 3)


def test_repeated_vectors_count_once():
  vectors = np.repeat(np.eye(4), 100, axis=0)
  assert kmeans.fit_kmeans(vectors, 64, seed=0).shape == (2, 4)


def test_no_vectors():
  with pytest.raises(ValueError, match="at least one"):
    kmeans.fit_kmeans(np.zeros((0, 3)), 4, seed=0)


def test_nearest_is_the_nearest_and_the_first_of_equals():
  rng = np.random.default_rng(2)
  vectors = rng.normal(size=(4, 7, 5)).astype(np.float32)
  centroids = rng.normal(size=(11, 5)).astype(np.float32)
  distances = np.linalg.norm(vectors[..., None, :] - centroids, axis=-1)
  chosen = kmeans.nearest_centroid(vectors, np.concatenate([centroids, centroids]))
  np.testing.assert_array_equal(chosen, distances.argmin(axis=-1))
  assert chosen.dtype == np.int32
