"""Residual VQ: by hand, monotone, zero at zero."""

import numpy as np
import pytest

from singsong_jax.codecs import rvq


@pytest.fixture(scope="module")
def vectors():
  return np.random.default_rng(0).laplace(size=(600, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def codebooks(vectors):
  return rvq.fit_codebooks(vectors, num_levels=5, num_codes=16, seed=0, iterations=4)


def test_by_hand():
  codebooks = np.array([[[0, 0], [10, 0], [0, 10]], [[0, 0], [1, 0], [0, 1]]], np.float32)
  vectors = np.array([[11, 0.2], [-1, 11.4], [0.1, 0.1]], np.float32)
  codes = rvq.quantize(vectors, codebooks)
  np.testing.assert_array_equal(codes, [[1, 1], [2, 2], [0, 0]])
  np.testing.assert_array_equal(rvq.dequantize(codes, codebooks), [[11, 0], [0, 11], [0, 0]])
  np.testing.assert_array_equal(rvq.dequantize(codes[:, :1], codebooks), [[10, 0], [0, 10], [0, 0]])


def test_error_of_every_vector_never_grows(codebooks):
  unseen = np.random.default_rng(9).normal(size=(300, 8)).astype(np.float32) * 3
  codes = rvq.quantize(unseen, codebooks)
  errors = [np.linalg.norm(unseen - rvq.dequantize(codes[:, :n], codebooks), axis=1) for n in range(1, 6)]
  assert (np.diff(errors, axis=0) <= 1e-5).all()
  assert errors[-1].mean() < 0.9 * errors[0].mean()


def test_zero_vector_gets_code_zero(codebooks):
  np.testing.assert_array_equal(codebooks[:, 0], 0)
  np.testing.assert_array_equal(rvq.quantize(np.zeros((2, 3, 8)), codebooks), np.zeros((2, 3, 5)))


def test_codebooks_survive_float16(codebooks):
  np.testing.assert_array_equal(codebooks, codebooks.astype(np.float16).astype(np.float32))


def test_few_vectors_fill_every_codebook_with_distinct_entries():
  vectors = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
  codebooks = rvq.fit_codebooks(vectors, num_levels=2, num_codes=16, seed=0, iterations=2)
  assert len(np.unique(codebooks[0], axis=0)) == 16
