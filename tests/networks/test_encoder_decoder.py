"""The network as a whole: sizes, names, causality, padding, dropout, remat."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

TINY = EncoderDecoderConfig(
  vocab_size=30,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=24,
  num_encoder_layers=1,
  num_decoder_layers=2,
  dtype="float32",
)
RNG = np.random.default_rng(0)
ENCODER = jnp.asarray(RNG.integers(2, 30, (3, 7))).at[1, 4:].set(0)
DECODER = jnp.asarray(RNG.integers(2, 30, (3, 11)))


@functools.cache
def init(config):
  module = EncoderDecoder(config)
  return jax.jit(lambda: module.init(jax.random.key(0), ENCODER, DECODER, enable_dropout=False))()


@functools.partial(jax.jit, static_argnums=0)
def logits_of(config, params, encoder=ENCODER, decoder=DECODER):
  return EncoderDecoder(config).apply(params, encoder, decoder, enable_dropout=False)


def shapes_of(config):
  return jax.eval_shape(lambda: init.__wrapped__(config))


@pytest.mark.parametrize(
  "sizes, parameters",
  [
    ((512, 6, 8, 1024), 49_306_624),
    ((768, 12, 12, 2048), 206_095_872),
    ((1024, 16, 24, 2816), 727_840_768),
    ((2048, 32, 24, 5120), 2_739_138_560),
  ],
  ids=["small", "base", "large", "xl"],
)
def test_parameter_counts_at_vocabulary_5122(sizes, parameters):
  emb_dim, num_heads, num_layers, mlp_dim = sizes
  config = EncoderDecoderConfig(
    vocab_size=5122,
    emb_dim=emb_dim,
    num_heads=num_heads,
    head_dim=64,
    mlp_dim=mlp_dim,
    num_encoder_layers=num_layers,
    num_decoder_layers=num_layers,
  )
  shapes = shapes_of(config)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_logical_axes_are_t5xs():
  config = dataclasses.replace(TINY, position_scheme="relative_bias")
  axes = nn.get_partition_spec(shapes_of(config))["params"]
  is_leaf = lambda x: isinstance(x, jax.sharding.PartitionSpec)
  axes = jax.tree.map(tuple, axes, is_leaf=is_leaf)
  layer = axes["decoder"]["layers_1"]
  assert axes["token_embedder"]["embedding"] == ("vocab", "embed")
  assert axes["decoder"]["logits_dense"]["kernel"] == ("embed", "vocab")
  assert axes["encoder"]["relpos_bias"]["rel_embedding"] == ("heads", "relpos_buckets")
  for name in ("query", "key", "value"):
    assert layer["encoder_decoder_attention"][name]["kernel"] == ("embed", "joined_kv")
  assert layer["self_attention"]["out"]["kernel"] == ("joined_kv", "embed")
  assert layer["mlp"]["wi_0"]["kernel"] == layer["mlp"]["wi_1"]["kernel"] == ("embed", "mlp")
  assert layer["mlp"]["wo"]["kernel"] == ("mlp", "embed")
  assert layer["pre_mlp_layer_norm"]["scale"] == ("embed",)


def test_later_tokens_do_not_reach_earlier_logits():
  params = init(TINY)
  changed = logits_of(TINY, params, decoder=DECODER.at[:, 6].set(3)) != logits_of(TINY, params)
  assert not changed[:, :6].any() and changed[:, 6:].any()


def test_padding_of_the_encoder_is_not_seen():
  params = init(TINY)
  longer = jnp.pad(ENCODER, ((0, 0), (0, 5)))
  np.testing.assert_allclose(logits_of(TINY, params, longer), logits_of(TINY, params), atol=1e-5)


def test_positions_matter_on_both_sides():
  params = init(TINY)
  swapped = ENCODER[:1, ::-1]
  assert (
    float(jnp.abs(logits_of(TINY, params, swapped, DECODER[:1]) - logits_of(TINY, params)[:1]).max()) > 1e-2
  )
  constant = logits_of(TINY, params, decoder=jnp.full((3, 11), 5))
  assert float(jnp.abs(constant[:, 3] - constant[:, 4]).max()) > 1e-2


def test_dropout_is_reproducible_and_off_by_the_flag():
  module, params = EncoderDecoder(TINY), init(TINY)
  run = lambda key: module.apply(params, ENCODER, DECODER, enable_dropout=True, rngs={"dropout": key})
  drop = lambda seed, run=jax.jit(run): run(jax.random.key(seed))
  np.testing.assert_array_equal(drop(1), drop(1))
  assert float(jnp.abs(drop(1) - drop(2)).max()) > 1e-2
  assert float(jnp.abs(drop(1) - logits_of(TINY, params)).max()) > 1e-2


@functools.cache
def loss_and_gradients(**settings):
  config = dataclasses.replace(TINY, num_encoder_layers=2, num_decoder_layers=2, **settings)

  def loss(params):
    rngs = {"dropout": jax.random.key(3)}
    logits = EncoderDecoder(config).apply(params, ENCODER, DECODER, enable_dropout=True, rngs=rngs)
    return jnp.square(jax.nn.log_softmax(logits)[..., : config.vocab_size]).mean()

  return jax.jit(jax.value_and_grad(loss))(init(config))


@pytest.mark.slow
@pytest.mark.parametrize(
  "settings",
  [
    {"remat": "minimal"},
    {"remat": "full"},
    {"scan_layers": True},
    {"scan_layers": True, "remat": "minimal"},
    {"vocab_multiple": 16},
  ],
)
def test_how_it_is_computed_changes_neither_parameters_nor_gradients(settings):
  """With dropout: the masks are the same too."""
  loss, gradients = loss_and_gradients(**settings)
  expected_loss, expected = loss_and_gradients()
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients, expected)


def test_bfloat16_activations_keep_float32_parameters_and_logits():
  config = dataclasses.replace(TINY, dtype="bfloat16")
  params = init(config)
  logits = logits_of(config, params)
  assert logits.dtype == jnp.float32
  encoded = jax.eval_shape(lambda: EncoderDecoder(config).apply(params, ENCODER, method="encode"))
  assert encoded.dtype == jnp.bfloat16
  np.testing.assert_allclose(logits, logits_of(TINY, params), atol=0.15)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"position_scheme": "rotary"}, "rotary"),
    ({"time_slopes": (1.0,)}, "for each of the 2 heads"),
    ({"time_rotation": True, "head_dim": 7}, "head_dim must be even, got 7"),
    ({"time_slopes": (1.0, -1.0)}, "one \\(≥ 0\\) for each"),
    ({"emb_dim": 15}, "15"),
    ({"dropout_rate": 1.0}, "1.0"),
    ({"mlp_activations": ("gleu",)}, "gleu"),
    ({"dtype": "float8"}, "float8"),
    ({"remat": "some"}, "some"),
    ({"attention": "splash"}, "splash"),
    ({"attention": "cudnn", "dtype": "float32"}, "cudnn"),
    ({"vocab_multiple": 0}, "vocab_multiple"),
  ],
)
def test_bad_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **settings)


def test_a_network_needs_a_vocabulary():
  with pytest.raises(ValueError, match="vocab_size"):
    shapes_of(dataclasses.replace(TINY, vocab_size=0))
