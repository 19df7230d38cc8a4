"""w2v-BERT as a system: how much is masked, what losses count, that it learns, that a collapse is seen."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks.w2v_bert import Predictions, W2vBertConfig
from singsong_jax.systems import system_from_description
from singsong_jax.systems.w2v_bert import W2vBertSystem

NETWORK = W2vBertConfig(
  conv_channels=4,
  emb_dim=32,
  num_heads=2,
  mlp_dim=64,
  contrastive_blocks=1,
  mlm_blocks=1,
  feature_block=1,
  num_codes=8,
  code_dim=16,
  dropout_rate=0.0,
)
TINY = W2vBertSystem(network=NETWORK, segment_seconds=1.6, mask_start_rate=0.2, mask_span_frames=3)


def batch(rows=2, seed=0):
  """Notes of 0.4 s: there is something to fill in."""
  rng = np.random.default_rng(seed)
  hz = np.repeat(rng.choice([200, 400, 800, 1600], (rows, 4)), TINY.segment_samples // 4, axis=1)
  waveform = 0.3 * np.sin(2 * np.pi * np.cumsum(hz, axis=1) / 16_000)
  return {"waveform": jnp.array(waveform, jnp.float32), "weight": jnp.ones(rows)}


@pytest.fixture(scope="module")
def params():
  return nn.unbox(TINY.init(jax.random.key(0)))


@functools.partial(jax.jit, static_argnums=0)
def loss(system, params, rows, rng=None):
  return system.loss(params, rows, rng)


def means(sums):
  return {name: float(total / weight) for name, (total, weight) in sums.items()}


def test_half_of_the_frames_are_masked_in_spans():
  system = W2vBertSystem(network=NETWORK)
  mask = np.asarray(system.mask(jax.random.key(0), 400))
  assert mask.shape == (400, 250)
  assert abs(mask.mean() - 0.489) < 0.02
  edges = np.abs(np.diff(mask.mean(axis=0))).max()
  assert edges < 0.15  # the first frames no less than others
  for row in mask[:20, 10:-10]:
    starts, ends = (np.flatnonzero(np.diff(row.astype(int)) == sign) for sign in (1, -1))
    spans = ends[ends > starts[0]] - starts[: np.sum(ends > starts[0])]
    assert spans.min() >= system.mask_span_frames


def test_only_masked_frames_count(params):
  masked = means(loss(TINY, params, batch())[1])
  total = masked["contrastive_loss"] + masked["mlm_loss"]
  total += TINY.diversity_weight * (1 - masked["code_perplexity"] / NETWORK.num_codes)
  assert masked["loss"] == pytest.approx(total, rel=1e-5)
  everywhere = means(loss(dataclasses.replace(TINY, unmasked_weight=1.0), params, batch())[1])
  assert everywhere["mlm_loss"] == pytest.approx(
    masked["mlm_loss"], rel=1e-5
  )  # metrics stay those of masked frames
  assert everywhere["loss"] != pytest.approx(masked["loss"], rel=1e-4)


def test_filler_rows_do_not_count(params):
  rows = batch()
  mask = TINY.mask
  same = lambda rng, count: jnp.tile(mask(rng, 2), (count // 2, 1))
  filled = {name: jnp.concatenate([x, x]) for name, x in rows.items()}
  filled["weight"] = jnp.array([1.0, 1.0, 0.0, 0.0])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(W2vBertSystem, "mask", lambda self, rng, count: same(rng, count))
    a, b = (means(jax.jit(TINY.loss)(params, x, None)[1]) for x in (rows, filled))
  assert a["mlm_loss"] == pytest.approx(b["mlm_loss"], rel=1e-5)
  assert a["code_perplexity"] == pytest.approx(b["code_perplexity"], rel=1e-4)


def test_a_contrastive_loss_worked_by_hand():
  """Three masked frames of codes 0, 1, 1: the first has two distractors, the others one each."""
  system = dataclasses.replace(TINY, contrastive_temperature=0.5)
  targets = jnp.array([[[1.0, 0.0], [0.0, 2.0], [0.0, 2.0]]])
  context = jnp.array([[[3.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
  logits = jnp.zeros((1, 3, 8))
  predictions = Predictions(context, targets, jnp.array([[0, 1, 1]]), logits, logits)
  losses, hits = system._contrastive(predictions, jnp.ones((1, 3), bool), jax.random.key(0))
  expected = [np.log(np.exp(2) + 2) - 2, np.log(np.exp(2) + 1) - 2, np.log(1 + np.exp(2)) - 0]
  np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
  np.testing.assert_array_equal(hits[0], [1, 1, 0])


def test_a_collapsed_model_is_flagged(params):
  """The same frame over and over, as a collapsed quantizer sees all of them, has one code."""
  system = dataclasses.replace(TINY, collapsed_perplexity=0.5)
  healthy = means(loss(system, params, batch())[1])
  assert healthy["collapsed"] == 0 and healthy["code_usage"] > 0.5
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("singsong_jax.networks.w2v_bert._centred", lambda x: x * 0 + jnp.arange(x.shape[-1]))
    collapsed = means(jax.jit(system.loss)(params, batch(), None)[1])
  assert collapsed["collapsed"] == 1
  assert collapsed["code_perplexity"] == pytest.approx(1, abs=0.5)
  assert collapsed["code_usage"] == pytest.approx(1 / NETWORK.num_codes)


@pytest.mark.slow
def test_it_overfits_one_batch(params):
  system, rows = dataclasses.replace(TINY, unmasked_weight=1.0), batch()
  adam = optax.adam(5e-3)

  @jax.jit
  def step(n, params, state):
    objective = lambda params: (lambda total, sums: (total / sums["loss"][1], sums))(
      *system.loss(params, rows, jax.random.fold_in(jax.random.key(1), n), n)
    )
    gradients, sums = jax.grad(objective, has_aux=True)(params)
    updates, state = adam.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, sums

  state, history = adam.init(params), []
  for n in range(400):
    params, state, sums = step(n, params, state)
    history.append(means(sums))
  last = {name: np.mean([row[name] for row in history[-20:]]) for name in history[0]}
  # Masks are drawn anew at every step, and the path differs on every processor.
  assert last["mlm_accuracy"] > 0.5 and last["contrastive_accuracy"] > 0.4, last
  assert last["mlm_loss"] < 0.7 * history[0]["mlm_loss"]
  assert last["code_perplexity"] > 3  # not because there is one code only


def test_the_temperature_falls_to_its_least():
  temperatures = [float(TINY.temperature(step)) for step in (0, 1, 10_000_000)]
  np.testing.assert_allclose(temperatures, [2, 2 * 0.999995, 0.1], rtol=1e-6)
  assert TINY.temperature(None) == TINY.min_temperature


def test_description_round_trip():
  assert system_from_description(TINY.describe()) == TINY


@pytest.mark.parametrize("seconds", [1.61, 0.08])
def test_impossible_segments(seconds):
  with pytest.raises(InputError, match="must be a multiple of 640, and at least 3 frames"):
    dataclasses.replace(TINY, segment_seconds=seconds)
