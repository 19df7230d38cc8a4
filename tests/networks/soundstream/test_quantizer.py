"""Residual VQ with moving-average codebooks: by hand, against numpy, and what gradients may and may not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.networks.soundstream import quantizer
from singsong_jax.networks.soundstream.quantizer import Codebooks

# Two levels of three codes in two dimensions.
ENTRIES = jnp.array([[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
VECTORS = jnp.array([[3.2, 1.0], [0.5, 3.0], [2.9, -0.1]])


def test_two_levels_by_hand():
  quantized = quantizer.quantize(VECTORS, ENTRIES)
  # (3.2, 1) is nearest (4, 0); what is left, (−0.8, 1), is nearest (0, 1) of the second level, and so on.
  np.testing.assert_array_equal(quantized.codes, [[1, 1], [2, 0], [1, 2]])
  np.testing.assert_allclose(quantized.residuals[1], [[-0.8, 1.0], [0.5, -1.0], [-1.1, -0.1]], atol=1e-6)
  np.testing.assert_allclose(quantized.vectors, [[4, 1], [0, 4], [3, 0]], atol=1e-6)
  np.testing.assert_allclose(quantizer.dequantize(quantized.codes, ENTRIES), quantized.vectors)
  np.testing.assert_allclose(quantizer.dequantize(quantized.codes[:, :1], ENTRIES), [[4, 0], [0, 4], [4, 0]])


def test_fewer_levels_leave_the_codes_and_shorten_the_sum():
  quantized = quantizer.quantize(VECTORS, ENTRIES, jnp.array([1, 2, 1]))
  np.testing.assert_array_equal(quantized.codes, [[1, 1], [2, 0], [1, 2]])
  np.testing.assert_allclose(quantized.vectors, [[4, 0], [0, 4], [4, 0]])
  np.testing.assert_array_equal(quantized.active, [[True] * 3, [False, True, False]])


def test_the_gradient_passes_as_if_nothing_were_quantised():
  through = lambda y: quantizer.straight_through(y, quantizer.quantize(y, ENTRIES).vectors)
  np.testing.assert_array_equal(jax.jacobian(through)(VECTORS[0]), np.eye(2))


def test_commitment_pulls_each_level_apart_from_the_others():
  """d/dy of |rᵢ − eᵢ|² is 2 (rᵢ − eᵢ) at every level; of attached residuals it would vanish for i > 0."""
  for level in (0, 1):
    term = lambda y, level=level: jnp.sum(
      jnp.square(
        quantizer.quantize(y, ENTRIES).residuals[level] - quantizer.quantize(y, ENTRIES).chosen[level]
      )
    )
    quantized = quantizer.quantize(VECTORS, ENTRIES)
    expected = 2 * (quantized.residuals[level] - quantized.chosen[level])
    np.testing.assert_allclose(jax.grad(term)(VECTORS), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.1
  total = jax.grad(lambda e: jnp.sum(quantizer.commitment(quantizer.quantize(VECTORS, e))))(ENTRIES)
  np.testing.assert_array_equal(total, np.zeros_like(ENTRIES))  # codebooks learn without gradients


def test_commitment_counts_active_levels_only():
  quantized = quantizer.quantize(VECTORS, ENTRIES, jnp.array([1, 2, 1]))
  by_level = np.mean(np.square(quantized.residuals - quantized.chosen), axis=-1)
  expected = [by_level[0, 0], by_level[:, 1].mean(), by_level[0, 2]]
  np.testing.assert_allclose(quantizer.commitment(quantized), expected, rtol=1e-6)


def random_codebooks(rng, levels=3, codes=8, dims=4):
  entries = rng.normal(size=(levels, codes, dims)).astype(np.float32)
  counts = rng.uniform(5, 10, (levels, codes)).astype(np.float32)
  return Codebooks(jnp.array(entries), jnp.array(counts), jnp.array(entries * counts[..., None]))


def test_moving_averages_are_numpys():
  rng = np.random.default_rng(0)
  before = random_codebooks(rng)
  vectors = rng.normal(size=(5, 20, 4)).astype(np.float32)
  num_levels = rng.integers(1, 4, (5, 1))
  quantized = quantizer.quantize(jnp.array(vectors), before.entries, jnp.array(num_levels))
  after = quantizer.update_codebooks(before, quantized, jax.random.key(0), decay=0.9, max_threshold=0.0)

  rest = vectors.reshape(-1, 4).astype(np.float64)
  rows = np.broadcast_to(num_levels, (5, 20)).ravel()
  for level in range(3):
    entries = np.asarray(before.entries[level], np.float64)
    codes = np.argmin(np.square(rest[:, None] - entries).sum(-1), axis=1)
    learns = rows > level
    counts = 0.9 * before.counts[level] + 0.1 * np.bincount(codes[learns], minlength=8)
    sums = 0.9 * np.asarray(before.sums[level])
    np.add.at(sums, codes[learns], 0.1 * rest[learns])
    smoothed = (counts + 1e-5) / (counts.sum() + 8e-5) * counts.sum()
    np.testing.assert_allclose(after.counts[level], counts, rtol=1e-5)
    np.testing.assert_allclose(after.entries[level], sums / smoothed[:, None], rtol=1e-4, atol=1e-5)
    rest = rest - entries[codes]


@pytest.mark.parametrize("rows,dies", [(40, True), (400, True), (12, False)])
def test_dead_entries_become_residuals_of_the_batch(rows, dies):
  """Also where the batch is small: the threshold is at most 0.3 of an equal share of it."""
  rng = np.random.default_rng(1)
  before = random_codebooks(rng, levels=1)
  count = 0.2 if dies else 0.5  # after one step of γ = 0.99, against 0.3 · rows / 8
  counts = before.counts.at[0, 3].set(count)
  far = before.entries.at[0, 3].set(1e3)  # which nothing chooses
  before = before.replace(counts=counts, entries=far, sums=far * counts[..., None])
  vectors = jnp.array(rng.normal(size=(rows, 4)).astype(np.float32))
  quantized = quantizer.quantize(vectors, before.entries)
  after = quantizer.update_codebooks(before, quantized, jax.random.key(0), decay=0.99, max_threshold=2.0)
  distances = np.abs(np.asarray(vectors) - np.asarray(after.entries[0, 3])).max(axis=1)
  assert (distances.min() < 1e-3) == dies
  if dies:
    assert after.counts[0, 3] == pytest.approx(rows / 8)  # alive: an equal share


def test_replacements_come_from_rows_in_which_the_level_is_active():
  before = quantizer.empty_codebooks(2, 4, 2).replace(counts=jnp.full((2, 4), 1e-6))
  vectors = jnp.array([[1.0, 1.0], [9.0, 9.0], [2.0, 2.0]])
  quantized = quantizer.quantize(vectors, before.entries, jnp.array([2, 1, 2]))
  after = quantizer.update_codebooks(before, quantized, jax.random.key(3), decay=0.99, max_threshold=2.0)
  drawn = set(np.round(np.asarray(after.entries[1, :2, 0]), 2).tolist())
  assert drawn == {1.0, 2.0}


def test_kmeans_finds_clusters_level_by_level():
  rng = np.random.default_rng(2)
  coarse = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
  fine = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]], np.float32)
  vectors = coarse[rng.integers(4, size=4000)] + fine[rng.integers(4, size=4000)]
  codebooks = quantizer.kmeans_codebooks(jax.random.key(0), jnp.array(vectors), 2, 16)
  quantized = quantizer.quantize(jnp.array(vectors), codebooks.entries)
  errors = [
    np.mean(np.square(vectors - 0)),
    *np.mean(np.square(quantized.residuals - quantized.chosen), (1, 2)),
  ]
  assert errors[0] > 10 * errors[1] > 10 * errors[2]
  assert quantizer.is_fitted(codebooks) and not quantizer.is_fitted(quantizer.empty_codebooks(2, 16, 2))


def test_usage_and_perplexity():
  counts = jnp.array([[1.0, 1.0, 1.0, 1.0], [4.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
  codebooks = Codebooks(jnp.zeros((3, 4, 2)), counts, jnp.zeros((3, 4, 2)))
  usage, perplexity = quantizer.usage_and_perplexity(codebooks)
  np.testing.assert_allclose(usage, [1, 0.25, 0.5])
  np.testing.assert_allclose(perplexity, [4, 1, 2], rtol=1e-5)
