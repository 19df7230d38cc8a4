"""FLOPs of a training step against a count by hand and the figures known for the paper's sizes."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks import sizes
from singsong_jax.networks import flops
from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

SMALL = EncoderDecoderConfig(
  vocab_size=7,
  emb_dim=4,
  num_heads=2,
  head_dim=3,
  mlp_dim=5,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dtype="float32",
)


def test_against_a_count_by_hand():
  encoder = 2 * 10 * (4 * 4 * 6 + 3 * 4 * 5) + 2 * 2 * 10 * 10 * 6
  self_attention = 2 * 20 * 4 * 4 * 6 + 2 * 2 * 20 * 20 * 6 / 2
  cross_attention = 2 * 20 * 2 * 4 * 6 + 2 * 10 * 2 * 4 * 6 + 2 * 2 * 20 * 10 * 6
  mlp, head = 2 * 20 * 3 * 4 * 5, 2 * 20 * 4 * 7
  by_hand = 3 * 8 * (encoder + self_attention + cross_attention + mlp + head)
  assert flops.encoder_decoder_step(SMALL, 8, 10, 20) == by_hand


def test_against_the_compilers_count():
  """XLA counts norms and softmax too; 250 positions are one chunk of causal attention: a full square."""
  network = dataclasses.replace(SMALL, vocab_size=512, emb_dim=128, num_heads=2, head_dim=64, mlp_dim=256)
  module = EncoderDecoder(network)
  tokens, targets = jnp.ones((2, 50), jnp.int32), jnp.ones((2, 250), jnp.int32)
  params = module.init(jax.random.key(0), tokens, targets, enable_dropout=False)
  forward = jax.jit(lambda p: module.apply(p, tokens, targets, enable_dropout=False))
  counted = forward.lower(params).compile().cost_analysis()["flops"]
  assert counted == pytest.approx(
    flops.encoder_decoder_step(network, 2, 50, 250, causal_share=1.0) / 3, rel=0.1
  )
  assert counted > flops.encoder_decoder_step(network, 2, 50, 250, causal_share=1.0) / 3


@pytest.mark.parametrize(
  ("size", "encoder_length", "halved", "full"),
  [("base", 250, 0.97, 1.11), ("base", 2250, 2.11, 2.26), ("xl", 250, 11.5, 12.2), ("xl", 2250, 22.7, 23.4)],
)
def test_the_papers_sizes_at_its_batch(size, encoder_length, halved, full):
  """In PFLOP, batch 512, S-SA and SA-SA."""
  network = sizes.encoder_decoder(size, vocab_size=5122)
  step = lambda share: (
    flops.encoder_decoder_step(network, 512, encoder_length, 2250, causal_share=share) / 1e15
  )
  assert step(0.5) == pytest.approx(halved, rel=0.005)
  assert step(1.0) == pytest.approx(full, rel=0.005)


def test_attention_of_one_head_by_hand():
  assert flops.attention_step(1, 1, 10, 20, 8, causal=False) == 3 * (2 * 10 * 20 * 8 + 2 * 10 * 20 * 8)
  assert flops.attention_step(2, 3, 10, 10, 8, causal=True) == 3 * 6 * (2 * 2 * 10 * 10 * 8) / 2


def test_a_decoder_alone_by_hand():
  network = DecoderOnlyConfig(
    vocab_size=7,
    emb_dim=4,
    num_heads=2,
    head_dim=3,
    mlp_dim=5,
    num_decoder_layers=2,
    mlp_activations=("gelu",),
  )
  layer = 2 * 20 * (4 * 4 * 6 + 2 * 4 * 5) + 2 * 2 * 20 * 20 * 6 / 2
  assert flops.decoder_only_step(network, 8, 20, 15) == 3 * 8 * (2 * layer + 2 * 15 * 4 * 7)
