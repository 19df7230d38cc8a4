"""Attention against plain NumPy, and the fused kernels against it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from singsong_jax.errors import InputError
from singsong_jax.networks import attention
from singsong_jax.networks.attention import dot_product_attention
from singsong_jax.training.partitioning import Partitioner


def naive_attention(query, key, value, visible, bias=0.0):
  """One softmax over a full square in float64."""
  logits = np.einsum("bhqd,bhkd->bhqk", query, key, dtype=np.float64) + bias
  logits = np.where(visible, logits, -np.inf)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  return np.einsum("bhqk,bhkd->bhqd", weights / weights.sum(-1, keepdims=True), value)


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("length", [1, 5, 8, 21])
def test_causal_attention_in_chunks_is_the_full_square(monkeypatch, length):
  monkeypatch.setattr(attention, "CAUSAL_CHUNK", 8)
  query, key, value = (random(2, 3, length, 4, seed=i) for i in range(3))
  bias = random(1, 3, length, length, seed=3)
  result = dot_product_attention(query, key, value, causal=True, bias=jnp.asarray(bias))
  expected = naive_attention(query, key, value, np.tri(length, dtype=bool), bias)
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_causal_attention_accepts_a_key_mask(monkeypatch):
  monkeypatch.setattr(attention, "CAUSAL_CHUNK", 4)
  query, key, value = (random(2, 1, 9, 4, seed=i) for i in range(3))
  key_mask = np.ones((2, 9), bool)
  key_mask[1, 2:5] = False
  result = dot_product_attention(query, key, value, causal=True, key_mask=jnp.asarray(key_mask)[:, None])
  expected = naive_attention(query, key, value, np.tri(9, dtype=bool) & key_mask[:, None, None])
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_gradient_of_chunked_attention_is_the_full_squares(monkeypatch):
  inputs = [jnp.asarray(random(1, 2, 11, 4, seed=i)) for i in range(3)]
  attend = lambda *qkv: jnp.sin(dot_product_attention(*qkv, causal=True)).sum()
  gradients = []
  for chunk in (4, 256):
    monkeypatch.setattr(attention, "CAUSAL_CHUNK", chunk)
    gradients.append(jax.jit(jax.grad(lambda *qkv: attend(*qkv), (0, 1, 2)))(*inputs))
  for chunked, full in zip(*gradients, strict=True):
    np.testing.assert_allclose(chunked, full, atol=1e-5)


def test_joined_batch_and_heads_give_the_same():
  query, key, value = random(2, 3, 1, 4), random(2, 3, 7, 4, seed=1), random(2, 3, 7, 4, seed=2)
  join = lambda x: x.reshape(6, *x.shape[2:])
  joined = dot_product_attention(join(query), join(key), join(value))
  np.testing.assert_allclose(joined, join(dot_product_attention(query, key, value)), atol=1e-6)


def test_attention_with_every_key_masked_is_finite():
  x = jnp.asarray(random(1, 1, 2, 4))
  assert jnp.isfinite(dot_product_attention(x, x, x, key_mask=jnp.zeros((1, 1, 2), bool))).all()


def in_interpreter(function, *arrays):
  with pltpu.force_tpu_interpret_mode():
    return jax.jit(function)(*arrays)


@pytest.mark.slow
@pytest.mark.parametrize("queries, keys, causal", [(140, 140, True), (20, 7, False)])
def test_the_tpu_kernel_gives_the_same_numbers_and_gradients(queries, keys, causal):
  query, key, value = random(2, 2, queries, 8), random(2, 2, keys, 8, seed=1), random(2, 2, keys, 8, seed=2)
  mask = np.ones((2, 1, keys), bool)
  mask[1, :, keys - 3 :] = causal  # padding at the end of the second row's keys

  def loss(attend):
    return lambda *qkv: (jnp.sin(x := attend(*qkv)).sum(), x)

  ours = functools.partial(dot_product_attention, causal=causal, key_mask=jnp.asarray(mask))
  kernel = functools.partial(attention.flash, key_mask=jnp.asarray(mask), causal=causal)
  grad = lambda attend: jax.grad(loss(attend), (0, 1, 2), has_aux=True)
  expected = jax.jit(grad(ours))(query, key, value)
  result = in_interpreter(grad(kernel), query, key, value)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), result, expected)


def test_blocks_are_whole_tiles_that_divide_the_length():
  assert [attention._block(length) for length in (128, 256, 2048, 2304)] == [128, 256, 512, 384]


@pytest.mark.parametrize("kernel, needed", [("flash", "TPUs"), ("cudnn", "NVIDIA GPUs")])
def test_a_kernel_for_other_devices_is_refused(kernel, needed):
  x = jnp.zeros((1, 1, 2, 8))
  with (
    Partitioner(devices=jax.devices()[:1]).context(),
    pytest.raises(InputError, match=f"attention='{kernel}' is a kernel for {needed}, .*'cpu'"),
  ):
    dot_product_attention(x, x, x, kernel=kernel)


def test_the_tpu_kernel_is_only_for_the_trainers_mesh():
  """Elsewhere nothing says which device has which rows."""
  x = jnp.asarray(random(1, 1, 2, 8))
  np.testing.assert_array_equal(
    dot_product_attention(x, x, x, kernel="flash"), dot_product_attention(x, x, x)
  )


def test_the_gpu_kernel_gets_lengths_instead_of_a_mask(monkeypatch):
  """What cuDNN computes needs a GPU (benchmarks/gpu.py); what it is asked for does not."""
  query, key, value = random(2, 3, 5, 8), random(2, 3, 4, 8, seed=1), random(2, 3, 4, 8, seed=2)
  mask = jnp.array([[[True] * 4], [[True, True, False, False]]])
  plain = jax.nn.dot_product_attention

  def without_gpu(*arrays, implementation, **options):
    assert implementation == "cudnn"
    return plain(*arrays, **options)

  monkeypatch.setattr(jax.nn, "dot_product_attention", without_gpu)
  monkeypatch.setattr(attention, "_check_device", lambda kernel: None)
  for options in ({"key_mask": mask}, {"bias": jnp.asarray(random(1, 3, 5, 4, seed=3))}):
    result = dot_product_attention(query, key, value, **options, kernel="cudnn")
    np.testing.assert_allclose(result, dot_product_attention(query, key, value, **options), atol=1e-5)
  causal = dot_product_attention(query, query, query, causal=True, kernel="cudnn")
  np.testing.assert_allclose(causal, dot_product_attention(query, query, query, causal=True), atol=1e-5)
