"""The decoder alone: sizes, names, causality, logits from a position on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from singsong_jax.networks.decoder_only import DecoderOnly, DecoderOnlyConfig

TINY = DecoderOnlyConfig(
  vocab_size=30, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_decoder_layers=2, dtype="float32"
)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(1, 30, (3, 11)))


@functools.cache
def params_of(config):
  module = DecoderOnly(config)
  return jax.jit(lambda: module.init(jax.random.key(0), TOKENS, enable_dropout=False))()


def logits_of(tokens=TOKENS, **options):
  return DecoderOnly(TINY).apply(params_of(TINY), tokens, enable_dropout=False, **options)


def test_parameters_of_audiolms_stage():
  """12 gated blocks of 16,777,216 weights, two norms each; embedding, head, bias and the last norm."""
  config = DecoderOnlyConfig(
    vocab_size=12_289, emb_dim=1024, num_heads=16, head_dim=64, mlp_dim=4096, num_decoder_layers=12
  )
  shapes = jax.eval_shape(lambda: params_of.__wrapped__(config))
  block = 4 * 1024 * 1024 + 3 * 1024 * 4096 + 2 * 1024
  expected = 12 * block + 2 * 12_289 * 1024 + 16 * 32 + 1024
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected == 226_520_576


def test_names_are_the_decoder_half_of_the_encoder_decoder():
  params = nn.unbox(params_of(TINY))["params"]
  assert params.keys() == {"token_embedder", "decoder"}
  assert params["decoder"].keys() == {"layers_0", "layers_1", "decoder_norm", "logits_dense", "relpos_bias"}
  layer = {"pre_self_attention_layer_norm", "self_attention", "pre_mlp_layer_norm", "mlp"}
  assert params["decoder"]["layers_0"].keys() == layer


def test_later_tokens_do_not_reach_earlier_logits():
  changed = logits_of(TOKENS.at[:, 6].set(3)) != logits_of()
  assert not changed[:, :6].any() and changed[:, 6:].any()


def test_positions_matter():
  constant = logits_of(jnp.full((1, 11), 5))
  # All values are equal, so relative positions show only where something else came before.
  mixed = logits_of(jnp.full((1, 11), 5).at[0, 0].set(7))
  assert float(jnp.abs(constant[:, 3] - constant[:, 4]).max()) < 1e-5
  assert float(jnp.abs(mixed[:, 3] - mixed[:, 4]).max()) > 1e-3


def test_logits_from_a_position_on():
  np.testing.assert_allclose(logits_of(first_logit=7), logits_of()[:, 7:], atol=1e-6)
