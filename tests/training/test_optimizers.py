import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from singsong_jax.errors import InputError
from singsong_jax.training.optimizers import adafactor, constant_rate, freeze, muon, rsqrt_decay


@pytest.mark.parametrize("step,expected", [(0, 0.01), (9_999, 0.01), (10_000, 0.01), (40_000, 0.005)])
def test_rsqrt_decay_is_flat_for_ten_thousand_steps(step, expected):
  np.testing.assert_allclose(rsqrt_decay()(step), expected, rtol=1e-6)


def test_rsqrt_decay_settings():
  np.testing.assert_allclose(rsqrt_decay(2.0, 100)(400), 0.1, rtol=1e-6)


def test_no_warm_up_would_begin_with_an_infinite_rate():
  with pytest.raises(InputError, match="warmup_steps=0: at least 1"):
    rsqrt_decay(warmup_steps=0)


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
  transformation = adafactor().transformation
  value, state = jnp.asarray(param), transformation.init(jnp.asarray(param))
  for gradient in gradients:
    updates, state = transformation.update(jnp.asarray(gradient), state, value)
    value = optax.apply_updates(value, updates)
  expected = reference_adafactor(param, gradients, factored)
  np.testing.assert_allclose(np.asarray(value) - param, expected - param, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (20, 12)])
def test_muon_steps_along_the_orthogonal_part_of_the_momentum(shape):
  rng = np.random.default_rng(0)
  param = {"layers_0": {"kernel": rng.normal(scale=0.1, size=shape).astype(np.float32)}}
  gradients = rng.normal(size=(3, *shape))
  transformation = muon(constant_rate(0.01), beta=0.9).transformation
  value, state, momentum = param, transformation.init(param), np.zeros(shape)
  for t, gradient in enumerate(gradients, start=1):
    updates, state = transformation.update({"layers_0": {"kernel": jnp.asarray(gradient)}}, state, value)
    momentum = 0.9 * momentum + 0.1 * gradient
    nesterov = 0.9 * momentum / (1 - 0.9 ** (t + 1)) + 0.1 * gradient / (1 - 0.9**t)
    left, _, right = np.linalg.svd(nesterov, full_matrices=False)
    first = param["layers_0"]["kernel"]  # a step is as large when the parameters have grown
    expected = -0.01 * np.sqrt((first**2).mean()) * np.sqrt(max(shape)) * left @ right
    found = np.asarray(updates["layers_0"]["kernel"])
    # Five Newton–Schulz iterations leave singular values of 0.7 … 1.2 in the place of 1.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    ratios = np.linalg.svd(found)[1] / np.linalg.svd(expected)[1][: min(shape)]
    assert 0.6 < ratios.min() and ratios.max() < 1.25
    value = jax.tree.map(lambda x: 3 * x, optax.apply_updates(value, updates))


def test_muon_leaves_tables_and_vectors_to_adam():
  names = ("token_embedder/embedding", "decoder/logits_dense/kernel", "encoder/encoder_norm/scale")
  params = {name: jnp.ones((4, 6) if "norm" not in name else 4) for name in names}
  params["encoder/layers_0/attention/query/kernel"] = jnp.ones((4, 6))
  gradients = {name: jnp.full(leaf.shape, 1e-3) for name, leaf in params.items()}
  transformation = muon(constant_rate(0.01), adam_share=0.5).transformation
  updates, _ = transformation.update(gradients, transformation.init(params), params)
  for name in names:  # Adam's first step is its rate, whatever the gradient
    np.testing.assert_allclose(updates[name], -0.005, rtol=1e-3)
  step = updates["encoder/layers_0/attention/query/kernel"]  # of rank 1: all its energy in one direction
  assert 0.6 < float(jnp.linalg.norm(step)) / (0.01 * np.sqrt(6)) < 1.25


def test_factored_state_is_small():
  state = adafactor().transformation.init(jnp.zeros((256, 512)))
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 2 * (256 + 512)


def test_constant_rate_rises_and_stays():
  assert constant_rate()(0) == constant_rate()(9) == pytest.approx(1e-3)
  assert [float(constant_rate(0.5, 4)(step)) for step in (0, 2, 4, 9)] == [0.0, 0.25, 0.5, 0.5]


PARAMS = {
  "encoder": {"layers_0": {"kernel": jnp.ones((130, 130))}, "norm": {"scale": jnp.ones(4)}},
  "decoder": {"layers_0": {"kernel": jnp.ones((130, 140))}},
}


def updated(optimizer, gradient=1.0):
  state = optimizer.transformation.init(PARAMS)
  gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), PARAMS)
  updates, state = optimizer.transformation.update(gradients, state, PARAMS)
  return optax.apply_updates(PARAMS, updates), state


def test_frozen_parameters_keep_their_values_and_have_no_state():
  params, state = updated(freeze(["encoder/layers_.*"]))
  np.testing.assert_array_equal(params["encoder"]["layers_0"]["kernel"], 1)
  assert (params["encoder"]["norm"]["scale"] < 1).all() and (
    params["decoder"]["layers_0"]["kernel"] < 1
  ).all()
  shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
  assert (140,) in shapes and shapes.count((130,)) == 1  # the factors of the decoder's, none of the encoder's


def test_what_is_trained_is_trained_as_without_freezing():
  free, _ = updated(adafactor(constant_rate(0.1)))
  frozen, _ = updated(freeze(["encoder/.*"], adafactor(constant_rate(0.1))))
  np.testing.assert_array_equal(
    frozen["decoder"]["layers_0"]["kernel"], free["decoder"]["layers_0"]["kernel"]
  )
  assert freeze(["encoder/.*"], adafactor(constant_rate(0.1))).schedule(0) == pytest.approx(0.1)


@pytest.mark.parametrize(
  ("patterns", "message"),
  [
    (
      ["encoder"],
      r"'encoder' matches no parameter; did you mean encoder/\.\*\?.*whole of names such as decoder/",
    ),
    (["encodr/norm/scale"], r"did you mean encoder/norm/scale"),
    (["encoder/.*", "decoder/.*"], "match all 3 parameters: nothing is trained"),
  ],
)
def test_patterns_that_match_nothing_or_everything_are_refused(patterns, message):
  with pytest.raises(InputError, match=message):
    freeze(patterns).transformation.init(PARAMS)


@pytest.mark.parametrize(("patterns", "message"), [([], "is empty"), (["("], "not a regular expression")])
def test_patterns_that_are_none_are_refused(patterns, message):
  with pytest.raises(InputError, match=message):
    freeze(patterns)
