"""The samplers that `benchmarks/decode.py` times, each as a function of a seed.

All of them get the same sizes, the same random encoder input `[B, S]` and float32 weights (random: no
download), sample with temperature 0.85 without top-k, and make exactly `length` ids, never stopping early.
Only SingSong's engine and the plain sampler restrict ids to the legal ones; the others are spared it.
"""

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import plain_sampler
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.vocabulary import BOS_ID, PAD_ID

TEMPERATURE = 0.85
T5X_ABSENT = (
  "upstream t5x is not importable ({error}). Its package on the index is an empty placeholder: clone "
  "google-research/t5x, google/airio and google-research/jestimator from github.com, `pip install fiddle "
  "grain`, and run with PYTHONPATH=<t5x>:<airio>:<jestimator>"
)
TORCH_ABSENT = (
  "Hugging Face T5 is not importable ({error}). It is in the extra: pip install -c constraints.txt '.[torch]'"
)

Run = Callable[[int], Any]  # seed → ids [B, length] (on a device or not)


class Absent(Exception):
  """A contender's libraries are not installed; the message says how to get them."""


def ours(system: SingSong, params: Any, inputs: np.ndarray) -> Run:
  """`SingSong.generate`."""
  batch = {"encoder_input_tokens": jnp.asarray(inputs)}
  options = SamplingOptions(temperature=TEMPERATURE)
  return lambda seed: system.generate(params, batch, jax.random.key(seed), options)


def plain(system: SingSong, params: Any, inputs: np.ndarray) -> Run:
  """Our own cached sampler without the engine's care, over the same parameters."""
  tokens, unboxed = jnp.asarray(inputs), nn.unbox(params)
  return lambda seed: plain_sampler.sample(
    system, unboxed, tokens, jax.random.key(seed), temperature=TEMPERATURE
  )


def t5x(system: SingSong, params: Any, inputs: np.ndarray) -> Run:
  """Upstream's `temperature_sample` through its `EncoderDecoderModel` and network, all as they are."""
  del params  # its own: it has relative position biases besides
  return _t5x(system, inputs)


def t5x_without_bias(system: SingSong, params: Any, inputs: np.ndarray) -> Run:
  """Upstream without T5's relative position bias, which SingSong does not have: less work than `t5x`."""
  del params
  layers = _import("t5x.examples.t5.layers", T5X_ABSENT)
  with_bias = layers.RelativePositionBiases
  run = _t5x(system, inputs)

  def without_bias(seed: int) -> Any:  # the network asks for the class when it is traced, at the first call
    layers.RelativePositionBiases = lambda **kwargs: _NoBias(name=kwargs["name"])
    try:
      return run(seed)
    finally:
      layers.RelativePositionBiases = with_bias

  return without_bias


def _t5x(system: SingSong, inputs: np.ndarray) -> Run:
  models, decoding, network, seqio = (
    _import(name, T5X_ABSENT) for name in ("t5x.models", "t5x.decoding", "t5x.examples.t5.network", "seqio")
  )
  ours, length = system.network, system.target_layout.length
  sizes = ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim", "num_encoder_layers")
  config = network.T5Config(
    **{name: getattr(ours, name) for name in (*sizes, "num_decoder_layers", "mlp_activations")},
    dtype=jnp.dtype(ours.dtype),
    dropout_rate=0.0,
  )
  module = network.Transformer(config)
  vocabulary = seqio.PassThroughVocabulary(size=ours.vocab_size)
  model = models.EncoderDecoderModel(
    module, vocabulary, vocabulary, optimizer_def=None, decode_fn=decoding.temperature_sample
  )
  token = jnp.ones((1, 1), jnp.int32)
  params = jax.jit(lambda key: module.init(key, token, token, token, enable_dropout=False))(jax.random.key(0))
  batch = {
    "encoder_input_tokens": jnp.asarray(inputs),
    "decoder_input_tokens": jnp.zeros((len(inputs), length), jnp.int32),
  }
  options = {"eos_id": -1, "topk": 0, "temperature": TEMPERATURE}

  @jax.jit
  def predict(params, batch, key):
    return model.predict_batch_with_aux(params, batch, rng=key, decoder_params=dict(options))[0]

  return lambda seed: predict(params["params"], batch, jax.random.key(seed))


class _NoBias(nn.Module):
  """Stands in for upstream's relative position biases."""

  @nn.compact
  def __call__(self, query_length, key_length, bidirectional=True):
    return None


def hugging_face(system: SingSong, params: Any, inputs: np.ndarray) -> Run:
  """`T5ForConditionalGeneration.generate` with its cache, as it comes, on all cores."""
  del params  # its own
  torch, transformers = (_import(name, TORCH_ABSENT) for name in ("torch", "transformers"))
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  network, length = system.network, system.target_layout.length
  config = transformers.T5Config(
    vocab_size=network.vocab_size,
    d_model=network.emb_dim,
    d_kv=network.head_dim,
    d_ff=network.mlp_dim,
    num_heads=network.num_heads,
    num_layers=network.num_encoder_layers,
    num_decoder_layers=network.num_decoder_layers,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    pad_token_id=PAD_ID,
    decoder_start_token_id=BOS_ID,
    eos_token_id=None,
  )
  torch.manual_seed(0)
  model = transformers.T5ForConditionalGeneration(config).to(torch.float32).eval()
  # T5.1.1 has a head of its own; version 5 ties it to the embedding whatever the configuration says.
  head = torch.randn(network.vocab_size, network.emb_dim) / network.emb_dim**0.5
  model.lm_head.weight = torch.nn.Parameter(head)
  tokens = torch.from_numpy(inputs.astype(np.int64))

  def run(seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    with torch.inference_mode():
      ids = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        min_new_tokens=length,
        max_new_tokens=length,
        use_cache=True,
      )
    return ids[:, 1:].numpy()  # without the start token

  return run


def _import(name: str, absent: str) -> Any:
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # theirs
      return importlib.import_module(name)
  except ImportError as error:
    raise Absent(absent.format(error=error)) from error


CONTENDERS = {
  "ours": ours,
  "plain": plain,
  "t5x": t5x,
  "t5x_without_bias": t5x_without_bias,
  "hugging_face": hugging_face,
}
