"""Logits stay what they were: `python tests/networks/test_golden.py` rewrites the recorded ones.

Parameters come from NumPy and their own names, not from jax.random, whose streams may change between
versions. A change here means that old checkpoints give other results: say so in the changelog.
"""

import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.networks.config import POSITION_SCHEMES
from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

FOLDER = pathlib.Path(__file__).parent


def config_for(scheme):
  return EncoderDecoderConfig(
    vocab_size=24,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=2,
    num_decoder_layers=2,
    dtype="float32",
    position_scheme=scheme,
  )


def parameters(config):
  token = jnp.ones((1, 1), jnp.int32)
  init = lambda: EncoderDecoder(config).init(jax.random.key(0), token, token, enable_dropout=False)
  return jax.tree_util.tree_map_with_path(fill, nn.meta.unbox(jax.eval_shape(init)))


def fill(path, leaf):
  """Normal numbers seeded by the parameter's name; kernels scaled by 1/√inputs."""
  name = jax.tree_util.keystr(path)
  values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(leaf.shape)
  if "kernel" in name:
    values /= np.sqrt(leaf.shape[0])
  return jnp.asarray(values, jnp.float32)


def inputs():
  rng = np.random.default_rng(1)
  encoder = rng.integers(2, 24, (2, 9)).astype(np.int32)
  encoder[1, 6:] = 0
  return encoder, rng.integers(2, 24, (2, 12)).astype(np.int32)


def logits(scheme, encoder, decoder):
  config = config_for(scheme)
  run = lambda: EncoderDecoder(config).apply(parameters(config), encoder, decoder, enable_dropout=False)
  return jax.jit(run)()


@pytest.mark.parametrize("scheme", POSITION_SCHEMES)
def test_logits_equal_the_recorded_ones(scheme):
  with np.load(FOLDER / f"golden_{scheme}.npz") as golden:
    result = logits(scheme, golden["encoder_input_tokens"], golden["decoder_input_tokens"])
    assert np.abs(golden["logits"]).max() > 1
    np.testing.assert_allclose(result, golden["logits"], atol=2e-5)


if __name__ == "__main__":
  for name in POSITION_SCHEMES:
    encoder_tokens, decoder_tokens = inputs()
    np.savez(
      FOLDER / f"golden_{name}.npz",
      encoder_input_tokens=encoder_tokens,
      decoder_input_tokens=decoder_tokens,
      logits=np.asarray(logits(name, encoder_tokens, decoder_tokens)),
    )
