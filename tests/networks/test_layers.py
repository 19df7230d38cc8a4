"""Attention, norm, embedding and MLP against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.networks import layers

FLOAT32 = jnp.dtype("float32")


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
  monkeypatch.setattr(layers, "CAUSAL_CHUNK", 8)
  query, key, value = (random(2, 3, length, 4, seed=i) for i in range(3))
  bias = random(1, 3, length, length, seed=3)
  result = layers.dot_product_attention(query, key, value, causal=True, bias=jnp.asarray(bias))
  expected = naive_attention(query, key, value, np.tri(length, dtype=bool), bias)
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_causal_attention_accepts_a_key_mask(monkeypatch):
  monkeypatch.setattr(layers, "CAUSAL_CHUNK", 4)
  query, key, value = (random(2, 1, 9, 4, seed=i) for i in range(3))
  key_mask = np.ones((2, 9), bool)
  key_mask[1, 2:5] = False
  result = layers.dot_product_attention(
    query, key, value, causal=True, key_mask=jnp.asarray(key_mask)[:, None]
  )
  expected = naive_attention(query, key, value, np.tri(9, dtype=bool) & key_mask[:, None, None])
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_gradient_of_chunked_attention_is_the_full_squares(monkeypatch):
  inputs = [jnp.asarray(random(1, 2, 11, 4, seed=i)) for i in range(3)]
  attend = lambda *qkv: jnp.sin(layers.dot_product_attention(*qkv, causal=True)).sum()
  gradients = []
  for chunk in (4, 256):
    monkeypatch.setattr(layers, "CAUSAL_CHUNK", chunk)
    gradients.append(jax.jit(jax.grad(lambda *qkv: attend(*qkv), (0, 1, 2)))(*inputs))
  for chunked, full in zip(*gradients, strict=True):
    np.testing.assert_allclose(chunked, full, atol=1e-5)


def test_joined_batch_and_heads_give_the_same():
  query, key, value = random(2, 3, 1, 4), random(2, 3, 7, 4, seed=1), random(2, 3, 7, 4, seed=2)
  join = lambda x: x.reshape(6, *x.shape[2:])
  joined = layers.dot_product_attention(join(query), join(key), join(value))
  np.testing.assert_allclose(joined, join(layers.dot_product_attention(query, key, value)), atol=1e-6)


def test_attention_with_every_key_masked_is_finite():
  x = jnp.asarray(random(1, 1, 2, 4))
  assert jnp.isfinite(layers.dot_product_attention(x, x, x, key_mask=jnp.zeros((1, 1, 2), bool))).all()


def test_norm_divides_by_the_root_mean_square_only():
  norm = layers.RMSNorm(FLOAT32)
  x = jnp.array([[3.0, 4.0, 0.0, 0.0]])  # mean square 25/4
  variables = norm.init(jax.random.key(0), x)
  np.testing.assert_allclose(norm.apply(variables, x), [[1.2, 1.6, 0.0, 0.0]], atol=1e-6)
  np.testing.assert_allclose(
    norm.apply(variables, x * 1e-6)[0, 1] / 1.6, np.sqrt(1 / (1 + 1e-6 / 6.25e-12)), 1e-3
  )


def test_embedding_of_an_id_outside_the_vocabulary_is_nan():
  embed = layers.Embed(4, 2, FLOAT32)
  variables = embed.init(jax.random.key(0), jnp.zeros((1, 1), int))
  x = embed.apply(variables, jnp.array([[3, 4]]))
  assert jnp.isfinite(x[0, 0]).all() and jnp.isnan(x[0, 1]).all()


def test_mlp_is_a_gated_gelu():
  mlp = layers.Mlp(3, ("gelu", "linear"), 0.0, FLOAT32)
  x = jnp.asarray(random(1, 2, 4))
  params = nn.meta.unbox(mlp.init(jax.random.key(0), x, True)["params"])
  expected = nn.gelu(x @ params["wi_0"]["kernel"]) * (x @ params["wi_1"]["kernel"]) @ params["wo"]["kernel"]
  np.testing.assert_allclose(mlp.apply({"params": params}, x, True), expected, atol=1e-6)


def test_attention_dropout_drops_a_key_from_all_queries_of_a_head():
  attention = layers.Attention(num_heads=2, head_dim=4, embed_dim=8, dropout_rate=0.5, dtype=FLOAT32)
  x = jnp.ones((1, 6, 8))  # equal keys: each head's output is the mean of its surviving values
  params = attention.init(jax.random.key(0), x, x, True)["params"]
  kept = attention.apply({"params": params}, x, x, True)
  outs = [
    attention.apply({"params": params}, x, x, False, rngs={"dropout": jax.random.key(i)}) for i in (1, 2)
  ]
  for out in outs:
    np.testing.assert_allclose(out, jnp.broadcast_to(out[:, :1], out.shape), atol=1e-6)
    assert float(jnp.abs(out - kept).max()) > 1e-3
  assert float(jnp.abs(outs[0] - outs[1]).max()) > 1e-3
