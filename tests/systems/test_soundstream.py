"""SoundStream as a system: one training step of everything, and what it must not do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from singsong_jax.errors import InputError
from singsong_jax.networks.soundstream.config import SoundStreamConfig
from singsong_jax.networks.soundstream.discriminators import DiscriminatorConfig
from singsong_jax.systems import system_from_description
from singsong_jax.systems.base import SelfUpdating
from singsong_jax.systems.soundstream import SoundStream

NETWORK = SoundStreamConfig(
  strides=(4, 8), encoder_channels=2, decoder_channels=2, latent_dim=4, num_levels=6, num_codes=16
)
JUDGES = DiscriminatorConfig(waveform_scales=1, waveform_channels=2, stft_windows=(256,), stft_channels=2)
TINY = SoundStream(
  network=NETWORK,
  discriminators=JUDGES,
  segment_seconds=0.16,
  waveform_weight=10.0,
  fit_codebooks_at=2,
  gathered_latents=256,
  adversarial_from=3,
)
ADAM = optax.adam(3e-3)
LOSS = jax.jit(TINY.loss)


def batch(rows=4, seed=0):
  rng = np.random.default_rng(seed)
  times = np.arange(TINY.segment_samples) / 16_000
  hz = rng.uniform(100, 1000, (rows, 1))
  waveform = 0.3 * np.sin(2 * np.pi * hz * times + rng.uniform(0, 6, (rows, 1)))
  return {"waveform": jnp.array(waveform, jnp.float32), "weight": jnp.ones(rows)}


def stepper(system):
  update = jax.jit(
    lambda n, p, o, b: system.update(n, p, o, b, jax.random.fold_in(jax.random.key(1), n), ADAM)
  )
  params = system.init(jax.random.key(0))
  opt_state = system.init_optimizer(ADAM, params)
  history = [(params, None)]
  while True:
    n = len(history) - 1
    params, opt_state, sums = update(jnp.int32(n), params, opt_state, batch(seed=n % 3))
    history.append((params, sums))
    yield params, {name: float(total / weight) for name, (total, weight) in sums.items()}


@pytest.fixture(scope="module")
def steps():
  stepping = stepper(TINY)
  return [next(stepping) for _ in range(6)]


def changed(a, b):
  return any(bool(jnp.any(x != y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_it_brings_its_own_step():
  assert isinstance(TINY, SelfUpdating)


def test_codebooks_begin_with_the_latents_gathered_before(steps):
  params = [step[0] for step in steps]
  assert not np.any(params[1].codebooks.entries) and np.any(params[1].latents)
  assert np.any(params[2].codebooks.entries)  # fitted at step 2, before the quantizer's first use
  assert steps[1][1]["commitment"] == 0 and steps[2][1]["commitment"] > 0
  assert changed(params[2].codebooks.entries, params[3].codebooks.entries)  # and they go on learning


def test_discriminators_wait_and_then_learn(steps):
  params = [step[0] for step in steps]
  assert not changed(params[0].discriminators, params[2].discriminators)
  assert changed(params[2].discriminators, params[3].discriminators)
  assert all(np.isfinite(list(means.values())).all() for _, means in steps)


def test_every_network_learns_and_the_average_follows(steps):
  first, last = steps[0][0], steps[-1][0]
  assert changed(first.networks["encoder"], last.networks["encoder"])
  assert changed(first.networks["decoder"], last.networks["decoder"])
  # After the first step the average is 0.1 of the initial and 0.9 of the new networks.
  start = TINY.init(jax.random.key(0)).networks
  expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, start, first.networks)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), first.average, expected)


@pytest.mark.slow
def test_the_loss_falls():
  stepping = stepper(dataclasses.replace(TINY, discriminators=None))
  losses = [next(stepping)[1]["loss"] for _ in range(60)]
  assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_levels_are_drawn_as_asked():
  system = dataclasses.replace(TINY, dropout_rate=0.5, coarse_rate=0.15)
  levels = np.asarray(system.draw_levels(jax.random.key(0), 20_000))
  shares = np.bincount(levels, minlength=7)[1:] / len(levels)
  expected = np.full(6, 0.5 / 6)
  expected[[3, 5]] += 0.15, 0.35
  np.testing.assert_allclose(shares, expected, atol=0.015)  # the last level is drawn too


def test_filler_rows_do_not_count(steps):
  params = steps[-1][0]
  rows = batch(rows=2)
  filled = {name: jnp.concatenate([x, x]) for name, x in rows.items()}
  filled["weight"] = jnp.array([1.0, 1.0, 0.0, 0.0])
  (a, _), (b, _) = (LOSS(params, x, None) for x in (rows, filled))
  np.testing.assert_allclose(a, b, rtol=1e-4)


def test_silence_is_no_nan(steps):
  silent = {"waveform": jnp.zeros((2, TINY.segment_samples)), "weight": jnp.ones(2)}
  assert np.isfinite(LOSS(steps[-1][0], silent, None)[0])


def test_description_round_trip():
  for system in (TINY, dataclasses.replace(TINY, discriminators=None, recipe="paper")):
    assert system_from_description(system.describe()) == system


@pytest.mark.parametrize(
  "change,message",
  [
    ({"recipe": "soup"}, "choose one of dac, paper"),
    ({"segment_seconds": 0.1001}, "no multiple"),
    ({"fit_codebooks_at": 0}, "at least 1"),
    ({"coarse_levels": 7}, "outside 1 … 6"),
    ({"dropout_rate": 0.9, "coarse_rate": 0.2}, "at most together"),
  ],
)
def test_impossible_settings(change, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(TINY, **change)
