"""The fine stage on a toy chunk of 16 frames × (2 + 3) levels of 6 codes: loss, generation, settings."""

import dataclasses
import functools
import json

import gin
import jax
import numpy as np
import pytest

from singsong_jax import code_sizes  # noqa: F401 (gin learns of them)
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.systems import system_from_description
from singsong_jax.systems.fine import SAMPLING, Fine
from singsong_jax.tokens.fine import BOS_ID, FineLayout

NETWORK = DecoderOnlyConfig(
  emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_decoder_layers=1, dtype="float32"
)
LAYOUT = FineLayout(num_acoustic_codes=6, num_levels=5, num_coarse_levels=2, chunk_seconds=0.32)
COARSE, LENGTH = 32, 80  # positions
SYSTEM = Fine(network=NETWORK, layout=LAYOUT)


@functools.cache
def params():
  """Fresh parameters with a sharper head, so that the choice of a token matters."""
  return jax.tree.map(lambda x: 3 * x, jax.jit(SYSTEM.init)(jax.random.key(0)))


def random_batch(rows=3, seed=0):
  codes = np.random.default_rng(seed).integers(0, 6, (rows, LAYOUT.frames, 5))
  targets = LAYOUT.encode(codes)
  return {
    "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=BOS_ID),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": np.tile(np.int32([0] * COARSE + [1] * (LENGTH - COARSE)), (rows, 1)),
  }


@functools.cache
def forward():
  return jax.jit(lambda tokens: SYSTEM.module.apply({"params": params()}, tokens, enable_dropout=False))


@functools.partial(jax.jit, static_argnums=0)
def loss_of(system, params, batch, dropout_rng=None):
  return system.loss(params, batch, dropout_rng)


def test_loss_and_metrics_by_hand():
  batch = random_batch()
  batch["decoder_loss_weights"][1, 70:] = 0
  loss, aux = loss_of(SYSTEM, params(), batch)
  logits = np.asarray(forward()(batch["decoder_input_tokens"]), np.float64)[:, COARSE:]
  targets, weights = (batch[f"decoder_{name}"][:, COARSE:] for name in ("target_tokens", "loss_weights"))
  log_z = np.log(np.exp(logits).sum(-1))
  nll = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
  level = (targets - 1) // 6  # [3, 48]
  own = np.take_along_axis(logits[..., 1:].reshape(3, 48, 5, 6), level[..., None, None], 2)[..., 0, :]
  masked = nll - log_z + np.log(np.exp(own).sum(-1))
  z = 1e-4 * log_z**2
  every = np.ones_like(weights)
  expected = {
    "loss": (nll + z, every),
    "z_loss": (z, every),
    "accuracy": (logits.argmax(-1) == targets, every),
    "nll_fine": (nll, every),
    "nll_fine_masked": (masked, every),
  }
  for q in (2, 3, 4):
    expected |= {f"nll_level_{q}": (nll, level == q), f"nll_level_{q}_masked": (masked, level == q)}
  assert aux.keys() == expected.keys()
  for name, (values, counted) in expected.items():
    total, weight = aux[name]
    np.testing.assert_allclose(total, (values * weights * counted).sum(), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(weight, (weights * counted).sum(), err_msg=name)
  assert loss == aux["loss"][0]


def test_coarse_positions_have_no_loss():
  batch = random_batch()
  loss, _ = loss_of(SYSTEM, params(), batch)
  batch["decoder_loss_weights"][:, :COARSE] = 7
  assert loss_of(SYSTEM, params(), batch)[0] == loss


def test_dropout_is_on_exactly_when_a_key_is_given():
  keys = (None, None, *jax.random.split(jax.random.key(0)))
  losses = [float(loss_of(SYSTEM, params(), random_batch(), key)[0]) for key in keys]
  assert losses[0] == losses[1]
  assert len(set(losses)) == 3


def uncached_reference(targets, rng, options, forced=()):
  """Runs the whole network anew for every token and masks the illegal ids of its logits."""
  inputs = np.zeros((len(targets), LENGTH + 1), np.int32)  # 0 is BOS
  for t in range(LENGTH):
    if t < COARSE or t in forced:
      inputs[:, t + 1] = targets[:, t]
      continue
    logits = np.array(forward()(inputs[:, :-1]))[:, t]
    ids = np.arange(logits.shape[-1])
    level = 2 + (t - COARSE) % 3
    logits[:, (ids < 1 + 6 * level) | (ids >= 7 + 6 * level)] = -np.inf
    for row in range(len(targets)):
      if options.greedy:
        inputs[row, t + 1] = logits[row].argmax()
        continue
      key = jax.random.fold_in(jax.random.fold_in(rng, row), t)
      noise = np.full(len(ids), 0.0)
      noise[1 + 6 * level : 7 + 6 * level] = jax.random.gumbel(key, (6,))
      inputs[row, t + 1] = (logits[row] / options.temperature + noise).argmax()
  return inputs[:, 1:]


@pytest.mark.parametrize("options", [SAMPLING, SamplingOptions(greedy=True)])
def test_generation_equals_the_uncached_reference(options):
  batch, rng = random_batch(), jax.random.key(7)
  expected = uncached_reference(batch["decoder_target_tokens"], rng, options)
  np.testing.assert_array_equal(SYSTEM.generate(params(), batch, rng, options), expected)
  assert len(np.unique(expected[:, COARSE:], axis=0)) > 1  # the rows differ, so the coarse ids are heard


def test_generation_takes_the_coarse_ids_and_nothing_else_from_the_batch():
  targets = random_batch()["decoder_target_tokens"]
  bare = LAYOUT.encode(LAYOUT.decode(targets)[..., :2])
  assert not bare[:, COARSE:].any()
  ids = [SYSTEM.generate(params(), {"decoder_target_tokens": x}, jax.random.key(1)) for x in (targets, bare)]
  np.testing.assert_array_equal(ids[0], ids[1])
  np.testing.assert_array_equal(ids[0][:, :COARSE], targets[:, :COARSE])
  LAYOUT.decode(ids[0])  # raises for an id that is illegal where it stands


def test_fine_ids_that_are_forced_stay_and_are_heard():
  """As at the end of a stream whose frames do not divide into chunks: the chunk's first frames are known."""
  batch, rng = random_batch(), jax.random.key(3)
  span = (COARSE, COARSE + 10 * 3)
  ids = SYSTEM.generate(params(), batch, rng, forced_spans=(span,))
  expected = uncached_reference(batch["decoder_target_tokens"], rng, SAMPLING, range(*span))
  np.testing.assert_array_equal(ids, expected)
  np.testing.assert_array_equal(ids[:, : span[1]], batch["decoder_target_tokens"][:, : span[1]])
  assert not np.array_equal(ids, SYSTEM.generate(params(), batch, rng))


def test_a_generated_row_does_not_depend_on_its_batch():
  keys = jax.random.split(jax.random.key(0), 3)
  tokens = random_batch()["decoder_target_tokens"]
  together = SYSTEM.generate(params(), {"decoder_target_tokens": tokens}, keys)
  alone = SYSTEM.generate(params(), {"decoder_target_tokens": tokens[1:2]}, keys[1:2])
  np.testing.assert_array_equal(alone[0], together[1])


@pytest.mark.parametrize(
  ("change", "settings", "message"),
  [
    ((1, 5), {}, "position 5 of row 1 is illegal"),
    ((2, 40), {"forced_spans": ((38, 44),)}, "position 40 of row 2 is illegal"),
    (None, {"forced_spans": ((20, 40),)}, "must not overlap"),
    (None, {"samples": 2}, "one sample a row"),
    (None, {"options": SamplingOptions(guidance_scale=3.0)}, "without guidance"),
  ],
)
def test_bad_requests_are_refused(change, settings, message):
  batch = random_batch()
  if change:
    batch["decoder_target_tokens"][change] = BOS_ID
  with pytest.raises(InputError, match=message):
    SYSTEM.generate(params(), batch, jax.random.key(0), **settings)


def test_the_memory_of_generation_grows_with_the_rows():
  keys_and_values = 2 * 1 * 2 * 8 * LENGTH * 4  # layers, heads, head_dim, positions, bytes
  one, two, three = map(SYSTEM.generation_bytes, (1, 2, 3))
  assert three - two == two - one > keys_and_values


def test_description_round_trips_through_json():
  again = system_from_description(json.loads(json.dumps(SYSTEM.describe())))
  assert again == SYSTEM and hash(again) == hash(SYSTEM)


@pytest.mark.parametrize("change", [{"wormhole": 1}, {"network": {}}, {"layout": {"num_levels": 2}}])
def test_foreign_descriptions_are_refused(change):
  with pytest.raises(InputError):
    system_from_description({**SYSTEM.describe(), **change})


def test_audiolms_sizes():
  network = DecoderOnlyConfig(emb_dim=1024, num_heads=16, head_dim=64, mlp_dim=4096, num_decoder_layers=12)
  system = Fine(network=network)
  assert system.network.vocab_size == 12_289 and system.network.position_scheme == "relative_bias"
  assert {array.shape for array in system.batch_shapes(2).values()} == {(2, 1800)}
  params = jax.eval_shape(system.init, jax.random.key(0))
  # 12 × (attention, gated MLP, 2 norms) + embedding, head, norm, relative biases
  block = 4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024
  expected = 12 * block + 2 * 12_289 * 1024 + 1024 + 32 * 16
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected == 226_520_576


def test_a_vocabulary_of_another_size_is_refused():
  with pytest.raises(InputError, match="vocab_size is 7, but the vocabulary has 31 ids"):
    Fine(network=dataclasses.replace(NETWORK, vocab_size=7), layout=LAYOUT)


def test_gin_builds_it():
  config = """
    Fine.network = @DecoderOnlyConfig()
    Fine.layout = @fine_layout()
    fine_layout.chunk_seconds = 1.0
    fine_layout.geometry = @Geometry()
    Geometry.num_acoustic_levels = 8
    DecoderOnlyConfig.emb_dim = 16
    DecoderOnlyConfig.num_heads = 2
    DecoderOnlyConfig.head_dim = 8
    DecoderOnlyConfig.mlp_dim = 24
    DecoderOnlyConfig.num_decoder_layers = 1
    DecoderOnlyConfig.dtype = 'float32'
  """
  with gin.unlock_config():
    gin.parse_config(config)
    system = Fine()
    gin.clear_config()
  assert system == Fine(network=NETWORK, layout=FineLayout(num_levels=8, chunk_seconds=1.0))
