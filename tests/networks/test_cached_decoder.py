"""The decoder a token, or a few, at a time gives the logits of the whole network at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.networks import cached_decoder
from singsong_jax.networks.cached_decoder import CachedDecoder, cache_bytes
from singsong_jax.networks.config import POSITION_SCHEMES
from singsong_jax.networks.decoder_only import DecoderOnly, DecoderOnlyConfig
from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from singsong_jax.networks.positions import Clock

SIZES = dict(
  vocab_size=30, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_decoder_layers=2, dtype="float32"
)
RNG = np.random.default_rng(0)
ENCODER = jnp.asarray(RNG.integers(2, 30, (3, 7))).at[1, 4:].set(0)
TOKENS = jnp.asarray(RNG.integers(2, 30, (6, 11)))
CLOCK = Clock(tuple(0.1 * i for i in range(7)), (0.0, 0.1, 0.2, 0.3, 0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3))


def encoder_decoder(samples=1, **changes):
  """(logits of all positions, the cached decoder), of rows that are `samples` per encoder row."""
  config = EncoderDecoderConfig(num_encoder_layers=1, **SIZES | changes)
  module = EncoderDecoder(config, CLOCK)
  tokens, encoder = TOKENS[: 3 * samples], jnp.repeat(ENCODER, samples, axis=0)
  params = jax.jit(functools.partial(module.init, enable_dropout=False))(jax.random.key(0), encoder, tokens)
  params = params["params"]
  logits = module.apply({"params": params}, encoder, tokens, enable_dropout=False)
  encoded = module.apply({"params": params}, ENCODER, method="encode")
  return logits, CachedDecoder(
    config,
    params,
    rows=len(tokens),
    max_length=11,
    encoded=encoded,
    encoder_mask=ENCODER > 0,
    clock=CLOCK,
  )


def decoder_only(rows=6, **changes):
  config = DecoderOnlyConfig(**SIZES | changes)
  module = DecoderOnly(config)
  params = jax.jit(functools.partial(module.init, enable_dropout=False))(jax.random.key(0), TOKENS)["params"]
  logits = module.apply({"params": params}, TOKENS[:rows], enable_dropout=False)
  return logits, CachedDecoder(config, params, rows=rows, max_length=11)


def cached_logits(decoder, tokens, steps):
  """All logits, read `steps` positions at a time with room for no more."""
  cache, position, found = decoder.init_cache(), 0, []
  for step in steps:
    cache = decoder.grow(cache, position + step)
    x, cache = decoder.extend(tokens[:, position : position + step], position, cache)
    found += [decoder.logits(x[:, i], 0, 30) for i in range(step)]
    position += step
  return jnp.stack(found, axis=1)


@pytest.mark.parametrize("steps", [[1] * 11, [4, 1, 1, 5]], ids=["single", "several"])
@pytest.mark.parametrize("scheme", POSITION_SCHEMES)
@pytest.mark.parametrize("make", [encoder_decoder, decoder_only])
def test_cached_logits_equal_the_full_forward_pass(make, scheme, steps):
  expected, decoder = make(position_scheme=scheme)
  found = cached_logits(decoder, TOKENS[: len(expected)], steps)
  np.testing.assert_allclose(found, expected, atol=2e-5)
  assert float(jnp.abs(expected).max()) > 0.5


def test_rows_share_their_encoder_row():
  expected, decoder = encoder_decoder(samples=2)
  np.testing.assert_allclose(cached_logits(decoder, TOKENS, [3, 1, 7]), expected, atol=2e-5)


@pytest.mark.parametrize("scheme", POSITION_SCHEMES)
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("changes", [{"time_slopes": (2.0, 30.0)}, {"time_rotation": True}])
def test_attention_that_goes_by_time(changes, samples, scheme):
  expected, decoder = encoder_decoder(samples, **changes, position_scheme=scheme)
  without, _ = encoder_decoder(samples, position_scheme=scheme)
  assert float(jnp.abs(expected - without).max()) > 0.01
  found = cached_logits(decoder, TOKENS[: len(expected)], [3, 1, 7])
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_unwritten_positions_are_not_read():
  expected, decoder = decoder_only()
  cache = decoder.grow(decoder.init_cache(), 11)
  poisoned = jax.tree.map(lambda x: x.at[:, 1:].set(1e4), cache)
  x, _ = decoder.extend(TOKENS[:, :1], 0, poisoned)
  np.testing.assert_allclose(decoder.logits(x[:, 0], 0, 30), expected[:, 0], atol=2e-5)


def test_logits_of_some_ids():
  expected, decoder = decoder_only()
  x, _ = decoder.extend(TOKENS[:, :1], 0, decoder.grow(decoder.init_cache(), 1))
  np.testing.assert_allclose(decoder.logits(x[:, 0], 12, 5), expected[:, 0, 12:17], atol=2e-5)


@pytest.mark.slow
def test_weights_that_lie_as_accelerators_like_them(monkeypatch):
  monkeypatch.setattr(cached_decoder, "_outputs_first", lambda rows: True)
  expected, decoder = decoder_only(rows=1)
  np.testing.assert_allclose(cached_logits(decoder, TOKENS[:1], [3, 1, 1, 6]), expected, atol=2e-5)


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")])
def test_every_kind_of_mlp(activations):
  expected, decoder = decoder_only(mlp_activations=activations)
  np.testing.assert_allclose(cached_logits(decoder, TOKENS, [11]), expected, atol=2e-5)


def test_bfloat16_weights_and_caches_give_float32_logits():
  expected, _ = decoder_only()
  _, decoder = decoder_only(dtype="bfloat16")
  cache = decoder.grow(decoder.init_cache(), 11)
  x, cache = decoder.extend(TOKENS, 0, cache)
  logits = decoder.logits(x[:, -1], 0, 30)
  assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, expected[:, -1], atol=0.2)


def test_cache_bytes_are_those_of_a_cache():
  config = DecoderOnlyConfig(**SIZES)
  _, decoder = decoder_only(rows=3)
  cache = decoder.grow(decoder.init_cache(), 11)
  assert sum(leaf.nbytes for leaf in jax.tree.leaves(cache)) == 3 * cache_bytes(config, 11)
