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
from scipy import stats

from singsong_jax.decoding import engine
from singsong_jax.decoding.sampling import SamplingOptions, choose, gumbel_noise, row_keys
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
  codes = np.random.default_rng(seed).integers(0, layout.block_sizes, (batch_size, layout.length))
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
  for level in range(4):
    expected[f"nll_level_{level}"] = nll, slice(2 + level, None, 4)
    expected[f"nll_level_{level}_masked"] = masked, slice(2 + level, None, 4)
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


def uncached_reference(system, params, batch, rng, options, forced=()):
  """Runs the whole network anew for every token, and chooses from the legal slice of its logits."""
  module, layout = system.module, system.target_layout
  apply = jax.jit(lambda *x: module.apply({"params": params}, *x, enable_dropout=False))
  rows = batch["encoder_input_tokens"].shape[0]
  keys = row_keys(rng, rows)
  inputs = np.full((rows, layout.length + 1), BOS_ID, np.int32)
  for t in range(layout.length):
    block = layout.legal_block(t)
    logits = apply(batch["encoder_input_tokens"], inputs[:, :-1])[:, t, block.start : block.stop]
    if options.guidance_scale != 1:
      away = apply(batch["guidance_input_tokens"], inputs[:, :-1])[:, t, block.start : block.stop]
      logits = away + options.guidance_scale * (logits - away)
    noise = gumbel_noise(keys, jnp.array([t]), block.size)[0]
    inputs[:, t + 1] = block.start + choose(logits, noise, options)
    if any(start <= t < stop for start, stop in forced):
      inputs[:, t + 1] = batch["decoder_target_tokens"][:, t]
  return inputs[:, 1:]


@pytest.fixture
def short_pieces(monkeypatch):
  """Pieces so short that the toy's 18 positions make several of every kind."""
  monkeypatch.setattr(engine, "SAMPLED_PIECE", 4)
  monkeypatch.setattr(engine, "FORCED_PIECE", 3)
  monkeypatch.setattr(engine, "MIN_FORCED_PIECE", 2)
  jax.clear_caches()
  yield
  jax.clear_caches()


@pytest.mark.parametrize(
  "options",
  [
    SamplingOptions(),
    SamplingOptions(greedy=True),
    SamplingOptions(top_k=3),
    SamplingOptions(top_p=0.7),
    SamplingOptions(guidance_scale=2.5),
  ],
  ids=["default", "greedy", "top_k", "top_p", "guidance"],
)
def test_generation_equals_the_uncached_reference(options, short_pieces):
  system = toy()
  batch, params, rng = batch_for(system), params_of(system), jax.random.key(7)
  batch["guidance_input_tokens"] = random_ids(system.input_layout, 3, seed=5)
  expected = uncached_reference(system, params, batch, rng, options)
  np.testing.assert_array_equal(system.generate(params, batch, rng, options), expected)
  assert len(np.unique(expected, axis=0)) > 1  # the rows differ, so the encoder's input is heard


@pytest.mark.parametrize("spans", [((0, 1), (2, 10)), ((3, 4), (5, 6), (8, 16)), ((7, 18),), ((0, 18),)])
def test_forced_spans_keep_their_ids_and_are_heard(spans, short_pieces):
  system = toy()
  batch, params, rng = batch_for(system), params_of(system), jax.random.key(7)
  ids = system.generate(params, batch, rng, forced_spans=spans)
  expected = uncached_reference(system, params, batch, rng, SamplingOptions(), spans)
  np.testing.assert_array_equal(ids, expected)
  for start, stop in spans:
    np.testing.assert_array_equal(ids[:, start:stop], batch["decoder_target_tokens"][:, start:stop])


@pytest.mark.parametrize("num_semantic_codes", [4, 9])
def test_code_books_of_different_sizes(num_semantic_codes, short_pieces):
  """Each position's own block is legal, and what competes in the masked losses."""
  vocabulary = Vocabulary(num_semantic_codes=num_semantic_codes, num_acoustic_codes=6)
  system = SingSong(network=NETWORK, features="sa_sa", vocabulary=vocabulary, geometry=GEOMETRY)
  batch, params, rng, spans = batch_for(system), params_of(system), jax.random.key(7), ((1, 3), (9, 10))
  expected = uncached_reference(system, params, batch, rng, SamplingOptions(), spans)
  np.testing.assert_array_equal(system.generate(params, batch, rng, forced_spans=spans), expected)
  _, aux = loss_of(system, params, batch)
  logits = np.asarray(full_forward(system, params, batch), np.float64)
  for group, positions in {"semantic": range(2), "level_3": range(5, 18, 4)}.items():
    nll = 0
    for t in positions:
      start, stop = system.target_layout.legal_block(t)
      own = logits[:, t, start:stop]
      target = np.take_along_axis(logits[:, t], batch["decoder_target_tokens"][:, t, None], axis=1)[:, 0]
      nll += (np.log(np.exp(own).sum(axis=1)) - target).sum()
    np.testing.assert_allclose(aux[f"nll_{group}_masked"][0], nll, rtol=1e-4)


def test_streams_inputs_and_samples_keep_to_their_rows(short_pieces):
  """Guidance, two samples of each of three inputs and forced spans, all at once."""
  system, options, spans = toy(), SamplingOptions(guidance_scale=2.0), ((1, 6), (9, 10))
  batch, params, rng = batch_for(system), params_of(system), jax.random.key(3)
  batch["guidance_input_tokens"] = random_ids(system.input_layout, 3, seed=5)
  batch["decoder_target_tokens"] = random_ids(system.target_layout, 6, seed=6)
  repeated = {name: np.repeat(batch[name], 2, axis=0) for name in batch if name.endswith("input_tokens")}
  expected = uncached_reference(
    system, params, repeated | {"decoder_target_tokens": batch["decoder_target_tokens"]}, rng, options, spans
  )
  ids = system.generate(params, batch, rng, options, forced_spans=spans, samples=2)
  np.testing.assert_array_equal(ids, expected)


def test_ids_follow_the_masked_softmax_over_the_whole_vocabulary():
  """The first and, after a fixed first one, the second id of many samples: a χ² test."""
  system, samples = toy(), 3000
  batch = {name: x[:1] for name, x in batch_for(system).items()}
  logits = np.asarray(full_forward(system, params_of(system), batch), np.float64)[0]
  forced = {"decoder_target_tokens": np.repeat(batch["decoder_target_tokens"], samples, axis=0)}
  inputs = {"encoder_input_tokens": batch["encoder_input_tokens"]}
  for position in (0, 1):
    ids = system.generate(
      params_of(system),
      inputs | forced,
      jax.random.key(position),
      forced_spans=((0, position),) if position else (),
      samples=samples,
    )
    block = system.target_layout.legal_block(position)
    masked = np.full(len(logits[position]), -np.inf)
    masked[block.start : block.stop] = logits[position, block.start : block.stop] / 0.85
    weights = np.exp(masked - masked.max())
    counts = np.bincount(ids[:, position], minlength=len(weights))
    legal = weights > 0
    assert counts[~legal].sum() == 0
    expected = weights[legal] / weights.sum() * samples
    assert stats.chisquare(counts[legal], expected).pvalue > 1e-3


def test_several_samples_of_an_input_are_rows_of_their_own():
  system = toy()
  batch, params = batch_for(system), params_of(system)
  keys = jax.random.split(jax.random.key(0), 6)
  ids = system.generate(params, batch, keys, samples=2)
  repeated = {"encoder_input_tokens": np.repeat(batch["encoder_input_tokens"], 2, axis=0)}
  np.testing.assert_array_equal(ids, system.generate(params, repeated, keys))
  assert not np.array_equal(ids[0], ids[1])


def silence_the_first_half(logits, position, inputs):
  """A logit callback: only the upper half of each block, until position 9."""
  forbidden = (jnp.arange(logits.shape[-1]) < 3) & (position < 9)
  return jnp.where(forbidden, -jnp.inf, logits)


def test_a_logit_callback_decides():
  system = toy()
  ids = system.generate(
    params_of(system), batch_for(system), jax.random.key(0), logit_callback=silence_the_first_half
  )
  codes = np.asarray(ids) - system.target_layout.block_starts
  assert (codes[:, :9] >= 3).all() and (codes[:, 9:] < 3).any()


@pytest.mark.parametrize(
  "spans, position, message",
  [
    (((0, 2),), 1, "at position 1 of row 0 is illegal: 2 … 7 may stand there"),
    (((2, 19),), None, "2 … 19 is not within the target's 0 … 18"),
    (((2, 9), (8, 12)), None, "ascending"),
    (((5, 5),), None, "5 … 5"),
  ],
)
def test_bad_forced_spans_are_refused(spans, position, message):
  system = toy()
  batch = batch_for(system)
  if position is not None:
    batch["decoder_target_tokens"][0, position] = 8  # of coarse level 0
  with pytest.raises(InputError, match=message):
    system.generate(params_of(system), batch, jax.random.key(0), forced_spans=spans)


def test_forced_tokens_of_another_number_of_rows_are_refused():
  system = toy()
  with pytest.raises(InputError, match=r"shape \(3, 18\).*\[6, 18\]"):
    system.generate(
      params_of(system), batch_for(system), jax.random.key(0), forced_spans=((0, 2),), samples=2
    )


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
  before = SingSong._generate._cache_size()
  for seed in range(3):
    same = SingSong(network=NETWORK, features="a_a", vocabulary=VOCABULARY, geometry=GEOMETRY)
    same.generate(params_of(system), batch, jax.random.key(seed), SamplingOptions(temperature=1.5))
  assert SingSong._generate._cache_size() == before + 1


def compiled_loops(system, rows):
  """The body of each sampling loop of the compiled generation, one instruction a line."""
  tokens = {"encoder_input_tokens": random_ids(system.input_layout, rows)}
  arguments = (system, params_of(system), tokens, jax.random.key(0), SamplingOptions(), (), 1, None)
  text = SingSong._generate.lower(*arguments).compile().as_text()
  computations = {c.split(maxsplit=1)[0].lstrip("%"): c for c in re.split(r"\n(?=%|ENTRY)", text)}
  bodies = [computations[name] for name in re.findall(r" while\(.*?body=%([\w.-]+)", text)]
  return [body.splitlines()[1:-1] for body in bodies if "dynamic-update-slice" in body]


# Of the toy's one layer: 40 with jax 0.10, and some room. Each costs an accelerator a start and a CPU a task.
KERNELS_PER_TOKEN = 44
NO_KERNELS = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast")


@pytest.mark.parametrize("rows", [1, 3])
def test_the_compiled_loop_copies_no_cache_and_starts_few_kernels(rows, short_pieces):
  lengths = set()
  for loop in compiled_loops(toy(), rows):
    found = [re.match(r"\s*(?:ROOT )?%(\S+) = (.*?) ([\w-]+)\(", line).groups() for line in loop]
    operations = [(name, shape, kind) for name, shape, kind in found if kind not in NO_KERNELS]
    caches = [x for x in operations if re.match(rf"f32\[{2 * rows},(4|8|12|16|18),8\]", x[1])]
    # Of the cache's shape (2 heads, positions, head_dim 8) there are keys and values, updated in place.
    assert len(caches) == 2 and all("dynamic-update-slice" in name for name, _, _ in caches), caches
    lengths.add(int(caches[0][1].split(",")[1]))
    assert len(operations) <= KERNELS_PER_TOKEN, operations
  assert lengths == {4, 8, 12, 16, 18}  # each loop reads the keys there are by its end


def test_memory_is_estimated_from_above():
  """Against the compiler's plan, of a song's later window: two long forced spans."""
  network = dataclasses.replace(NETWORK, emb_dim=32, num_heads=4, num_decoder_layers=2)
  system = SingSong(
    network=network, features="sa_sa", vocabulary=VOCABULARY, geometry=Geometry(window_seconds=2)
  )
  rows, length = 4, system.target_layout.length
  tokens = np.zeros((rows, length), np.int32)
  batch = {"encoder_input_tokens": tokens, "decoder_target_tokens": tokens}
  spans = ((0, 25), (50, 250))
  params = jax.eval_shape(system.init, jax.random.key(0))
  arguments = (system, params, batch, jax.random.key(0), SamplingOptions(), spans, 1, None)
  planned = SingSong._generate.lower(*arguments).compile().memory_analysis().temp_size_in_bytes
  assert planned <= system.generation_bytes(rows) <= 10 * planned  # which fuses what the estimate counts


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
    ({"features": "s"}, "sa_sa"),
    ({"vocals": "loud"}, "noisy"),
    ({"network": dataclasses.replace(NETWORK, vocab_size=7)}, "7"),
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
