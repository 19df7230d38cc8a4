"""The same parameters give the same logits as upstream t5x's `examples/t5` network.

Runs when a copy of t5x is importable; it is not a dependency (its place on the package index is an
empty placeholder): `PYTHONPATH=<t5x>:<airio>:<jestimator> pytest tests/networks/test_t5x_parity.py`.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.networks import positions
from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # upstream's imports warn; ours must not
  network = pytest.importorskip("t5x.examples.t5.network", reason="needs upstream t5x beside the project")

SIZES = dict(
  vocab_size=40, emb_dim=32, num_heads=4, head_dim=8, mlp_dim=48, num_encoder_layers=2, num_decoder_layers=3
)


class NoBias(nn.Module):
  """Stands in for upstream's relative bias where positions are sinusoidal."""

  @nn.compact
  def __call__(self, qlen, klen, bidirectional=True):
    return None


class EmbedWithSinusoids(network.layers.Embed):
  """Upstream's shared embedding followed by fixed positions."""

  def __call__(self, inputs):
    return super().__call__(inputs) + positions.sinusoids(inputs.shape[1], self.features)


def upstream(monkeypatch, scheme):
  if scheme == "sinusoidal":
    monkeypatch.setattr(
      network.layers, "RelativePositionBiases", lambda **kwargs: NoBias(name=kwargs["name"])
    )
    monkeypatch.setattr(network.layers, "Embed", EmbedWithSinusoids)
  return network.Transformer(network.T5Config(**SIZES, mlp_activations=("gelu", "linear"), dropout_rate=0.0))


@pytest.mark.parametrize("scheme", ["sinusoidal", "relative_bias"])
def test_logits_equal_upstreams(monkeypatch, scheme):
  rng = np.random.default_rng(0)
  length = 300  # beyond max_distance of the relative bias and beyond one chunk of causal attention
  encoder_tokens = rng.integers(2, 40, (2, 150))
  encoder_tokens[1, 100:] = 0  # padding
  targets = rng.integers(2, 40, (2, length))
  decoder_tokens = np.concatenate([np.ones((2, 1), int), targets[:, :-1]], axis=1)

  theirs = upstream(monkeypatch, scheme)
  arguments = tuple(jnp.asarray(x, jnp.int32) for x in (encoder_tokens, decoder_tokens, targets))
  params = theirs.init(jax.random.key(0), *arguments, enable_dropout=False)["params"]
  expected = theirs.apply({"params": params}, *arguments, enable_dropout=False)

  ours = EncoderDecoder(EncoderDecoderConfig(**SIZES, dtype="float32", position_scheme=scheme))
  own = nn.meta.unbox(ours.init(jax.random.key(0), *arguments[:2], enable_dropout=False)["params"])
  shapes = lambda tree: jax.tree.map(jnp.shape, jax.tree.map(jnp.asarray, tree))
  assert shapes(own) == shapes(params)  # the trees are the same: no conversion is needed
  logits = ours.apply({"params": params}, *arguments[:2], enable_dropout=False)

  difference = float(jnp.abs(logits - expected).max())
  print(f"{scheme}: largest difference of the logits {difference:.2g}")
  assert float(jnp.abs(expected).max()) > 1
  assert difference < 1e-5


def test_initial_parameters_are_distributed_as_upstreams(monkeypatch):
  """Equal standard deviations, leaf by leaf, within sampling error."""
  token = jnp.ones((1, 1), jnp.int32)
  theirs = upstream(monkeypatch, "relative_bias").init(jax.random.key(1), token, token, token)["params"]
  ours = EncoderDecoder(EncoderDecoderConfig(**SIZES, position_scheme="relative_bias"))
  own = nn.meta.unbox(ours.init(jax.random.key(2), token, token, enable_dropout=False)["params"])
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(own), jax.tree.leaves(theirs), strict=True):
    rms = lambda x: float(jnp.sqrt(jnp.mean(jnp.square(x))))
    assert rms(a) == pytest.approx(rms(b), rel=5 / np.sqrt(a.size), abs=0), jax.tree_util.keystr(path)
