"""The system on a toy vocabulary and window: loss, metrics, generation, description, gin."""

import dataclasses
import functools
import json
import re

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.decoding.sampling import SamplingOptions, choose
from singsong_jax.errors import InputError
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems import system_from_description
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.featurization import FEATURIZATIONS
from singsong_jax.tokens.vocabulary import BOS_ID, Vocabulary
from singsong_jax.tokens.windows import Geometry

NETWORK = EncoderDecoderConfig(
  emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_encoder_layers=1, num_decoder_layers=1, dtype="float32"
)
VOCABULARY = Vocabulary(num_semantic_codes=6, num_acoustic_codes=6)  # 32 ids
GEOMETRY = Geometry(window_seconds=0.08)  # 2 semantic frames, 4 acoustic ones


def toy(features="s_sa"):
  return SingSong(network=NETWORK, features=features, vocabulary=VOCABULARY, geometry=GEOMETRY)


@functools.cache
def params_of(system):
  """Fresh parameters with a sharper head, so that the choice of a token matters."""
  params = jax.jit(system.init)(jax.random.key(0))
  return jax.tree.map(lambda x: 3 * x, params)


def random_ids(layout, batch_size, seed=0):
  codes = np.random.default_rng(seed).integers(0, 6, (batch_size, layout.length))
  return (layout.block_starts + codes).astype(np.int32)


def batch_for(system, batch_size=3):
  targets = random_ids(system.target_layout, batch_size)
  bos = np.full((batch_size, 1), BOS_ID, np.int32)
  return {
    "encoder_input_tokens": random_ids(system.input_layout, batch_size, seed=1),
    "decoder_input_tokens": np.concatenate([bos, targets[:, :-1]], axis=1),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": np.ones_like(targets),
  }


@functools.partial(jax.jit, static_argnums=0)
def loss_of(system, params, batch, dropout_rng=None):
  return system.loss(params, batch, dropout_rng)


def full_forward(system, params, batch):
  module = system.module
  tokens = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
  return jax.jit(lambda *x: module.apply({"params": params}, *x, enable_dropout=False))(*tokens)


def test_loss_and_metrics_by_hand():
  system = toy()
  batch = batch_for(system)
  batch["decoder_loss_weights"][0, 1] = batch["decoder_loss_weights"][2, 5:] = 0
  loss, aux = loss_of(system, params_of(system), batch)
  logits = np.asarray(full_forward(system, params_of(system), batch), np.float64)
  targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
  log_z = np.log(np.exp(logits).sum(-1))
  nll = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
  blocks = logits[..., 2:].reshape(3, 18, 5, 6)  # the 5 blocks of 6 ids
  block = (targets - 2) // 6
  own = np.take_along_axis(blocks, block[..., None, None], 2)[..., 0, :]
  masked = nll - log_z + np.log(np.exp(own).sum(-1))
  z = 1e-4 * log_z**2
  everywhere, semantic, coarse = slice(None), slice(0, 2), slice(2, None)
  expected = {
    "loss": (nll + z, everywhere),
    "z_loss": (z, everywhere),
    "accuracy": (logits.argmax(-1) == targets, everywhere),
    "nll_semantic": (nll, semantic),
    "nll_coarse": (nll, coarse),
    "nll_semantic_masked": (masked, semantic),
    "nll_coarse_masked": (masked, coarse),
  }
  assert aux.keys() == expected.keys()
  for name, (values, positions) in expected.items():
    total, weight = aux[name]
    np.testing.assert_allclose(total, (values * weights)[:, positions].sum(), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(weight, weights[:, positions].sum(), err_msg=name)
  assert loss == aux["loss"][0]


def test_sums_of_microbatches_add_up():
  system = toy()
  batch = batch_for(system, 4)
  loss, aux = loss_of(system, params_of(system), batch)
  halves = [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]
  parts = [loss_of(system, params_of(system), half) for half in halves]
  np.testing.assert_allclose(loss, parts[0][0] + parts[1][0], rtol=1e-5)
  summed = jax.tree.map(lambda a, b: a + b, parts[0][1], parts[1][1])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), summed, aux)


def test_targets_without_a_stream_have_weight_zero_in_its_metrics():
  system = toy("sa_a")
  _, aux = loss_of(system, params_of(system), batch_for(system))
  assert aux["nll_semantic"] == aux["nll_semantic_masked"] == (0, 0)
  assert aux["nll_coarse"][1] == 3 * 16


def test_dropout_is_on_exactly_when_a_key_is_given():
  system = toy()
  batch, params = batch_for(system), params_of(system)
  losses = [
    float(loss_of(system, params, batch, key)[0])
    for key in (None, None, *jax.random.split(jax.random.key(0)))
  ]
  assert losses[0] == losses[1]
  assert len(set(losses)) == 3


def uncached_reference(system, params, encoder_tokens, rng, options):
  """Runs the whole network anew for every token, and chooses from the legal slice of its logits."""
  module, layout = system.module, system.target_layout
  apply = jax.jit(lambda *x: module.apply({"params": params}, *x, enable_dropout=False))
  rows = encoder_tokens.shape[0]
  keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(rows))
  inputs = np.full((rows, layout.length + 1), BOS_ID, np.int32)
  for t in range(layout.length):
    block = layout.legal_block(t)
    logits = apply(encoder_tokens, inputs[:, :-1])[:, t, block.start : block.stop]
    inputs[:, t + 1] = block.start + choose(logits, keys, t, options)
  return inputs[:, 1:]


@pytest.mark.parametrize(
  "options", [SamplingOptions(), SamplingOptions(greedy=True), SamplingOptions(top_k=3)]
)
def test_generation_equals_the_uncached_reference(options):
  system = toy()
  batch, params, rng = batch_for(system), params_of(system), jax.random.key(7)
  expected = uncached_reference(system, params, batch["encoder_input_tokens"], rng, options)
  np.testing.assert_array_equal(system.generate(params, batch, rng, options), expected)
  assert len(np.unique(expected, axis=0)) > 1  # the rows differ, so the encoder's input is heard


@pytest.mark.parametrize("features", FEATURIZATIONS)
def test_every_generated_id_is_legal(features):
  system = toy(features)
  batch = {"encoder_input_tokens": random_ids(system.input_layout, 2)}
  ids = system.generate(params_of(system), batch, jax.random.key(0), SamplingOptions(temperature=5.0))
  layout = system.target_layout
  assert ids.shape == (2, layout.length) and ids.dtype == jnp.int32
  assert ((ids >= layout.block_starts) & (ids < layout.block_starts + layout.block_sizes)).all()


def test_a_generated_row_does_not_depend_on_its_batch():
  system = toy()
  keys = jax.random.split(jax.random.key(0), 3)
  tokens = batch_for(system)["encoder_input_tokens"]
  generate = lambda rows: system.generate(
    params_of(system), {"encoder_input_tokens": tokens[rows]}, keys[rows]
  )
  together = generate(slice(0, 3))
  np.testing.assert_array_equal(generate(slice(1, 2))[0], together[1])


def test_generation_compiles_once_per_shape():
  system = SingSong(network=NETWORK, features="a_a", vocabulary=VOCABULARY, geometry=GEOMETRY)
  batch = {"encoder_input_tokens": random_ids(system.input_layout, 2)}
  before = SingSong.generate._cache_size()
  for seed in range(3):
    same = SingSong(network=NETWORK, features="a_a", vocabulary=VOCABULARY, geometry=GEOMETRY)
    same.generate(params_of(system), batch, jax.random.key(seed), SamplingOptions(temperature=1.5))
  assert SingSong.generate._cache_size() == before + 1


def test_the_compiled_loop_does_not_copy_its_caches():
  system = toy()
  tokens = {"encoder_input_tokens": random_ids(system.input_layout, 3)}
  compiled = SingSong.generate.lower(system, params_of(system), tokens, jax.random.key(0)).compile()
  cache = re.escape("f32[6,18,8]")  # batch 3 × 2 heads, 18 positions, head_dim 8
  copies = re.findall(rf"= {cache}\S* copy\(", compiled.as_text())
  assert re.search(rf"{cache}\S* dynamic-update-slice\(", compiled.as_text())
  assert len(copies) <= 2, copies  # at most one of keys and one of values, before the loop


@pytest.mark.parametrize("features", FEATURIZATIONS)
def test_description_round_trips_through_json(features):
  system = toy(features)
  again = system_from_description(json.loads(json.dumps(system.describe())))
  assert again == system and hash(again) == hash(system)


@pytest.mark.parametrize("change", [{"system": "fastsag"}, {"wormhole": 1}, {"network": {}}])
def test_foreign_descriptions_are_refused(change):
  with pytest.raises(InputError):
    system_from_description({**toy().describe(), **change})


def test_the_paper_base_model_by_default_settings():
  sizes = dict(
    emb_dim=768, num_heads=12, head_dim=64, mlp_dim=2048, num_encoder_layers=12, num_decoder_layers=12
  )
  system = SingSong(network=EncoderDecoderConfig(**sizes))
  assert system.network.vocab_size == 5122
  assert (system.input_layout.length, system.target_layout.length) == (250, 2250)
  params = jax.eval_shape(system.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 206_095_872


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"features": "s_s"}, "sa_sa"),
    ({"vocals": "loud"}, "noisy"),
    ({"network": dataclasses.replace(NETWORK, vocab_size=7)}, "7"),
    ({"vocabulary": Vocabulary(num_semantic_codes=500)}, "500"),
  ],
)
def test_bad_settings_are_refused(settings, message):
  with pytest.raises(InputError, match=message):
    SingSong(**{"network": NETWORK, **settings})


def test_gin_builds_it():
  config = """
    SingSong.network = @EncoderDecoderConfig()
    SingSong.features = 'a_sa'
    EncoderDecoderConfig.emb_dim = 16
    EncoderDecoderConfig.num_heads = 2
    EncoderDecoderConfig.head_dim = 8
    EncoderDecoderConfig.mlp_dim = 24
    EncoderDecoderConfig.num_encoder_layers = 1
    EncoderDecoderConfig.num_decoder_layers = 1
    EncoderDecoderConfig.dtype = 'float32'
    EncoderDecoderConfig.mlp_activations = ['gelu', 'linear']
  """
  with gin.unlock_config():
    gin.parse_config(config)
    system = SingSong()
    gin.clear_config()
  assert system == SingSong(network=NETWORK, features="a_sa")
  assert hash(system) == hash(SingSong(network=NETWORK, features="a_sa"))
