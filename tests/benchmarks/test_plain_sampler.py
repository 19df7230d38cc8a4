"""The plain sampler is worth comparing with only if it is the same model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from benchmarks import plain_sampler
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.windows import Geometry


@pytest.fixture(scope="module")
def system():
  network = EncoderDecoderConfig(
    emb_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=48,
    num_encoder_layers=1,
    num_decoder_layers=2,
    dtype="float32",
  )
  return SingSong(network=network, geometry=Geometry(window_seconds=0.2))


@pytest.fixture(scope="module")
def params(system):
  return nn.unbox(system.init(jax.random.key(0)))


def inputs(system, rows):
  return jax.random.randint(jax.random.key(1), (rows, system.input_layout.length), 2, 1026)


def test_greedy_ids_are_the_engines(system, params):
  tokens = inputs(system, 3)
  plain = plain_sampler.sample(system, params, tokens, jax.random.key(2), greedy=True)
  engine = system.generate(
    params, {"encoder_input_tokens": tokens}, jax.random.key(3), SamplingOptions(greedy=True)
  )
  np.testing.assert_array_equal(plain, engine)
  assert len(np.unique(plain)) > 10  # not one id over and over


def test_teacher_forcing_agrees(system, params):
  tokens = inputs(system, 2)
  ids = plain_sampler.sample(system, params, tokens, jax.random.key(2), greedy=True)
  shifted = jnp.concatenate([jnp.ones((2, 1), ids.dtype), ids[:, :-1]], axis=1)
  logits = system.module.apply({"params": params}, tokens, shifted, enable_dropout=False)
  starts = system.target_layout.block_starts[:, None]
  legal = (np.arange(logits.shape[-1]) >= starts) & (np.arange(logits.shape[-1]) < starts + 1024)
  np.testing.assert_array_equal(jnp.argmax(jnp.where(legal, logits, -jnp.inf), axis=-1), ids)


def test_samples_are_legal_and_differ_by_seed(system, params):
  tokens = inputs(system, 2)
  first, second = (plain_sampler.sample(system, params, tokens, jax.random.key(s)) for s in (0, 1))
  codes = np.asarray(first) - system.target_layout.block_starts
  assert codes.min() >= 0 and codes.max() < 1024
  assert (np.asarray(first) != np.asarray(second)).any()
