"""Losses against log-softmax written out."""

import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.networks import losses

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32) * 3
TARGETS = np.array([[0, 4, 6], [2, 3, 5]])


def test_cross_entropy_and_z_loss():
  log_z = np.log(np.exp(LOGITS).sum(-1))
  nll, z = losses.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS), 0.01)
  picked = np.take_along_axis(LOGITS, TARGETS[..., None], -1)[..., 0]
  np.testing.assert_allclose(nll, log_z - picked, rtol=1e-5)
  np.testing.assert_allclose(z, 0.01 * log_z**2, rtol=1e-5)


def test_uniform_logits_cost_the_log_of_the_choices():
  logits, targets = jnp.zeros((1, 2, 10)), jnp.array([[2, 7]])
  np.testing.assert_allclose(losses.cross_entropy(logits, targets, 0.0)[0], np.log(10), rtol=1e-6)
  masked = losses.block_cross_entropy(logits, targets, np.array([2, 6]), 4)
  np.testing.assert_allclose(masked, np.log(4), rtol=1e-6)


def test_block_cross_entropy_lets_only_the_block_compete():
  starts = np.array([0, 3, 4])  # TARGETS are inside these blocks of 3
  result = losses.block_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS), starts, 3)
  for b in range(2):
    for t in range(3):
      block = LOGITS[b, t, starts[t] : starts[t] + 3]
      expected = np.log(np.exp(block).sum()) - LOGITS[b, t, TARGETS[b, t]]
      np.testing.assert_allclose(result[b, t], expected, rtol=1e-5)


def test_large_logits_stay_finite():
  logits = jnp.array([[[1e4, 0.0, -1e4]]])
  nll, _ = losses.cross_entropy(logits, jnp.array([[2]]), 0.0)
  np.testing.assert_allclose(nll, 2e4)
  assert jnp.isfinite(
    jax.grad(lambda x: losses.cross_entropy(x, jnp.array([[2]]), 1e-4)[0].sum())(logits)
  ).all()


def test_correct_is_the_likeliest_id():
  expected = LOGITS.argmax(-1) == TARGETS
  np.testing.assert_array_equal(losses.correct(jnp.asarray(LOGITS), jnp.asarray(TARGETS)), expected)
  assert losses.correct(jnp.asarray(LOGITS), jnp.asarray(LOGITS.argmax(-1))).all()
