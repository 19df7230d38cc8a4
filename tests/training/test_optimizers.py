import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from singsong_jax.training.optimizers import adafactor, rsqrt_decay


@pytest.mark.parametrize("step,expected", [(0, 0.01), (9_999, 0.01), (10_000, 0.01), (40_000, 0.005)])
def test_rsqrt_decay_is_flat_for_ten_thousand_steps(step, expected):
  np.testing.assert_allclose(rsqrt_decay()(step), expected, rtol=1e-6)


def test_rsqrt_decay_settings():
  np.testing.assert_allclose(rsqrt_decay(2.0, 100)(400), 0.1, rtol=1e-6)


def reference_adafactor(param, gradients, factored):
  """Shazeer & Stern (2018), algorithms 4 and 5, in float64, with t5x's constants; no outside code."""
  param = param.astype(np.float64)
  rows = cols = full = 0.0
  for t, g in enumerate(gradients, start=1):
    beta = 1 - t**-0.8
    squared = g.astype(np.float64) ** 2 + 1e-30
    if factored:
      rows = beta * rows + (1 - beta) * squared.mean(axis=1)
      cols = beta * cols + (1 - beta) * squared.mean(axis=0)
      second = np.outer(rows, cols) / rows.mean()
    else:
      second = full = beta * full + (1 - beta) * squared
    update = g / np.sqrt(second)
    update /= max(1.0, np.sqrt((update**2).mean()))
    scale = max(1e-3, np.sqrt((param**2).mean()))
    param = param - 1 / np.sqrt(max(t - 1, 10_000)) * scale * update
  return param


@pytest.mark.parametrize(
  "shape,factored", [((128, 160), True), ((160, 128), True), ((127, 160), False), ((130,), False)]
)
def test_adafactor_equals_the_papers_equations(shape, factored):
  rng = np.random.default_rng(0)
  param = rng.normal(size=shape).astype(np.float32)
  gradients = [rng.normal(scale=10.0**-i, size=shape).astype(np.float32) for i in range(4)]
  transformation, _ = adafactor()
  value, state = jnp.asarray(param), transformation.init(jnp.asarray(param))
  for gradient in gradients:
    updates, state = transformation.update(jnp.asarray(gradient), state, value)
    value = optax.apply_updates(value, updates)
  expected = reference_adafactor(param, gradients, factored)
  np.testing.assert_allclose(np.asarray(value) - param, expected - param, rtol=2e-4, atol=1e-6)


def test_factored_state_is_small():
  state = adafactor().transformation.init(jnp.zeros((256, 512)))
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 2 * (256 + 512)
