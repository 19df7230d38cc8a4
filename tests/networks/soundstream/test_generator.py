"""Encoder and decoder: lengths, causality, and streams in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.networks.soundstream import flops
from singsong_jax.networks.soundstream.config import SoundStreamConfig
from singsong_jax.networks.soundstream.generator import STREAM, Decoder, Encoder

SMALL = SoundStreamConfig(encoder_channels=4, decoder_channels=4, latent_dim=8, strides=(2, 5), num_codes=16)


def count(config):
  waveform = jax.ShapeDtypeStruct((1, config.hop_samples), jnp.float32)
  latents = jax.ShapeDtypeStruct((1, 1, config.latent_dim), jnp.float32)
  shapes = [
    jax.eval_shape(network(config).init, jax.random.key(0), x)
    for network, x in ((Encoder, waveform), (Decoder, latents))
  ]
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def disturbed(variables, seed=0):
  """As after training: residual units begin as nothing, and what is wrong in them would not be seen."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.float32(x + 0.1 * rng.normal(size=x.shape)), variables)


def test_the_papers_geometry_and_our_sizes():
  base = SoundStreamConfig()
  assert (base.hop_samples, base.frame_rate_hz) == (320, 50)
  waveform = jax.ShapeDtypeStruct((2, 160_000), jnp.float32)
  variables = jax.eval_shape(Encoder(base).init, jax.random.key(0), waveform)
  latents = jax.eval_shape(Encoder(base).apply, variables, waveform)
  assert latents.shape == (2, 500, 128)
  variables = jax.eval_shape(Decoder(base).init, jax.random.key(0), latents)
  assert jax.eval_shape(Decoder(base).apply, variables, latents).shape == (2, 160_000)
  # Our own numbers: the 8.4 M of the paper's Table I do not follow from its text.
  assert count(base) == 9_841_249
  assert round(count(SoundStreamConfig(encoder_channels=8, decoder_channels=8, latent_dim=64)), -5) == 700_000


@pytest.fixture(scope="module")
def networks():
  rng = np.random.default_rng(0)
  waveform = jnp.array(rng.normal(size=(2, 400)).astype(np.float32))
  encoder = disturbed(Encoder(SMALL).init(jax.random.key(0), waveform))
  latents = Encoder(SMALL).apply(encoder, waveform)
  decoder = disturbed(Decoder(SMALL).init(jax.random.key(1), latents))
  return (Encoder(SMALL), encoder, waveform), (Decoder(SMALL), decoder, latents)


@pytest.mark.parametrize("which,step", [(0, 10), (1, 1)])
def test_chunks_give_what_the_whole_gives(networks, which, step):
  module, variables, x = networks[which]
  whole = module.apply(variables, x)
  state, pieces = {}, []
  for start, stop in ((0, 1), (1, 8), (8, 9), (9, 40)):  # frames
    chunk = x[:, start * step : stop * step]
    piece, changed = module.apply({**variables, **state}, chunk, mutable=[STREAM])
    state = {STREAM: changed[STREAM]}
    pieces.append(piece)
  np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


@pytest.mark.parametrize("which,step", [(0, 10), (1, 1)])
def test_nothing_looks_ahead(networks, which, step):
  module, variables, x = networks[which]
  changed = x.at[:, 20 * step :].add(1.0)
  before, after = module.apply(variables, x), module.apply(variables, changed)
  at = 20 * (before.shape[1] // 40)
  np.testing.assert_array_equal(before[:, :at], after[:, :at])
  assert np.abs(before[:, at:] - after[:, at:]).max() > 1e-3


@pytest.mark.parametrize("config", [SMALL, SoundStreamConfig(decoder_channels=1, latent_dim=2)])
def test_a_frame_depends_on_so_many_before_it(config):
  """The reach is exact: something of the first frame's effect is left in the last frame, nothing after it."""
  context = config.decoder_context_frames
  latents = jnp.ones((1, context + 3, config.latent_dim))
  variables = disturbed(Decoder(config).init(jax.random.key(0), latents))
  hop = config.hop_samples
  frame = slice((context + 1) * hop, (context + 2) * hop)
  gradient = jax.grad(lambda x: jnp.sum(jnp.square(Decoder(config).apply(variables, x)[0, frame])))(latents)
  used = np.abs(np.asarray(gradient)[0]).sum(axis=-1) > 0
  np.testing.assert_array_equal(used, [False] + [True] * (context + 1) + [False])


def test_multiply_accumulates_are_the_specs():
  """AUDIO: 3.04 GMAC a second each way for C = 32, counted here layer by layer."""
  config = SoundStreamConfig()
  assert flops.encoder_macs(config, 16_000) == pytest.approx(3.0e9, rel=0.05)
  assert flops.decoder_macs(config, 16_000) == pytest.approx(3.0e9, rel=0.05)
  assert flops.generator_macs(config, 320) == pytest.approx(
    flops.encoder_macs(config, 320) + flops.decoder_macs(config, 320) + 12 * 1024 * 128
  )


@pytest.mark.parametrize(
  "change", [{"strides": ()}, {"strides": (2, 0)}, {"num_levels": 0}, {"latent_dim": 1.5}, {"dtype": "int8"}]
)
def test_impossible_sizes(change):
  with pytest.raises(InputError, match=next(iter(change))):
    SoundStreamConfig(**change)
