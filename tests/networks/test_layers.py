"""Norm, embedding, MLP and head against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from singsong_jax.networks import layers

FLOAT32 = jnp.dtype("float32")


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


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


def test_a_padded_head_gives_the_same_logits_and_none_to_the_padding():
  x = random(2, 3, 8)
  plain, padded = layers.Head(10, 1), layers.Head(10, 8)
  variables = padded.init(jax.random.key(0), x)
  assert nn.unbox(variables)["params"]["kernel"].shape == (8, 10)
  logits = padded.apply(variables, x)
  assert logits.shape == (2, 3, 16)
  np.testing.assert_array_equal(logits[..., :10], plain.apply(variables, x))
  np.testing.assert_array_equal(jax.nn.softmax(logits)[..., 10:], 0)
