"""w2v-BERT's network: frames, the Conformer's parts, what masking hides, where features come from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks.conformer import ConformerBlock, DepthwiseConv, LayerNorm
from singsong_jax.networks.w2v_bert import W2vBert, W2vBertConfig

TINY = W2vBertConfig(
  conv_channels=4,
  emb_dim=16,
  num_heads=2,
  mlp_dim=32,
  contrastive_blocks=1,
  mlm_blocks=2,
  feature_block=1,
  num_codes=12,
  code_dim=8,
)
NUM_FEATURES = 20 * TINY.conv_channels  # 80 mel bands after two strides of 2
FRAMES = 25


def waveform(frames=FRAMES, rows=2, seed=0):
  shape = (rows, frames * TINY.hop_samples)
  return jnp.array(0.1 * np.random.default_rng(seed).normal(size=shape), jnp.float32)


@functools.partial(jax.jit, static_argnames="config")
def predict(params, waveform, mask, config=TINY, gumbel=None, temperature=1.0):
  noise = jnp.zeros((*mask.shape, NUM_FEATURES))
  return W2vBert(config).apply({"params": params}, waveform, mask, noise, gumbel, temperature, True)


@pytest.fixture(scope="module")
def params():
  init = jax.jit(lambda key: W2vBert(TINY).init(key, *arguments(1), deterministic=True)["params"])
  # As after training: no bias or gain at its start, so that none can be left out unseen.
  return disturbed(nn.unbox(init(jax.random.key(0))))


def disturbed(params, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.float32(x + 0.1 * rng.normal(size=x.shape)), params)


def arguments(frames):
  return (waveform(frames), jnp.zeros((2, frames), bool), jnp.zeros((2, frames, 1)), None, 1.0)


@functools.partial(jax.jit, static_argnames="config")
def features(params, waveform, config=TINY):
  return W2vBert(config).apply({"params": params}, waveform, method="features")


@pytest.mark.parametrize("seconds,frames", [(10, 250), (0.04, 1), (5.12, 128)])
def test_frames_are_a_640th_of_the_samples(params, seconds, frames):
  samples = round(seconds * 16_000)
  assert TINY.hop_samples == 640 and samples == frames * 640
  shapes = jax.eval_shape(lambda x: features(params, x), jax.ShapeDtypeStruct((3, samples), jnp.float32))
  assert (shapes.shape, shapes.dtype) == ((3, frames, TINY.emb_dim), jnp.float32)


def test_a_shifted_sound_shifts_its_frames(params):
  """By whole frames, as far as convolutions see; attention hears the clip's ends everywhere."""
  sound = waveform(FRAMES + 1, rows=1)
  subsample = jax.jit(lambda x: W2vBert(TINY).apply({"params": params}, x, method="_subsample"))
  early, late = subsample(sound[:, 640:]), subsample(sound[:, :-640])
  assert early.shape == (1, FRAMES, NUM_FEATURES)
  np.testing.assert_allclose(early[:, 1:-3], late[:, 2:-2], atol=1e-4)


def test_masked_features_are_hidden_from_both_modules_and_not_from_the_quantizer(params):
  mask = jnp.ones((2, FRAMES), bool).at[:, 10].set(False)
  one, other = (predict(params, waveform(seed=seed), mask) for seed in (0, 1))
  assert np.abs(one.context - other.context).max() > 1e-3  # through the frame that is not masked
  one, other = (predict(params, waveform(seed=seed), jnp.ones_like(mask)) for seed in (0, 1))
  np.testing.assert_array_equal(one.context, other.context)
  np.testing.assert_array_equal(one.mlm_logits, other.mlm_logits)
  assert np.abs(one.code_logits - other.code_logits).max() > 1e-3


def test_quantizer_takes_the_largest_and_learns_through_the_softmax(params):
  mask = jnp.zeros((2, FRAMES), bool)
  gumbel = jax.random.gumbel(jax.random.key(2), (2, FRAMES, TINY.num_codes))
  for noise in (None, 5 * gumbel):
    got = predict(params, waveform(), mask, gumbel=noise)
    codes = np.argmax(got.code_logits + (0 if noise is None else noise), axis=-1)
    np.testing.assert_array_equal(got.chosen, codes)
    np.testing.assert_allclose(got.targets, params["codebook"][codes], atol=1e-5)

  @jax.jit
  @jax.grad
  def gradient(params, temperature):
    return jnp.sum(predict(params, waveform(), mask, gumbel=gumbel, temperature=temperature).targets ** 2)

  warm, cold = gradient(params, 1.0), gradient(params, 0.1)
  sizes = [np.abs(grad["code_logits"]["kernel"]).max() for grad in (warm, cold)]
  assert min(sizes) > 0 and not np.isclose(*sizes)
  assert np.abs(warm["codebook"]).max() > 0


def test_features_are_those_of_the_chosen_block(params):
  """Blocks up to it count, later ones and heads do not."""
  clip = waveform()
  now = features(params, clip)

  def moved(block):
    return np.abs(features({**params, block: disturbed(params[block])}, clip) - now).max() > 1e-3

  blocks = ("project", "contrastive_0", "mlm_0", "mlm_1", "mlm_logits", "context_out", "code_logits")
  assert [moved(block) for block in blocks] == [True, True, True, False, False, False, False]
  later = dataclasses.replace(TINY, feature_block=2)
  assert np.abs(features(params, clip, later) - now).max() > 1e-3
  # After the block's final norm: what its gain and bias make of zero mean and unit variance.
  norm = params["mlm_0"]["final_norm"]
  plain = (now - norm["bias"]) / norm["scale"]
  np.testing.assert_allclose(plain.mean(axis=-1), 0, atol=1e-4)
  np.testing.assert_allclose(plain.std(axis=-1), 1, atol=1e-3)


def test_silence_and_clipping_are_no_nan(params):
  sound = jnp.stack([jnp.zeros(6400), jnp.ones(6400)])
  assert np.isfinite(features(params, sound)).all()
  gradient = jax.jit(jax.grad(lambda params: jnp.sum(features(params, sound) ** 2)))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_recomputing_changes_nothing(params):
  mask = jax.random.bernoulli(jax.random.key(0), 0.5, (2, FRAMES))

  @functools.partial(jax.jit, static_argnums=1)
  @jax.value_and_grad
  def loss(params, config):
    got = predict(params, waveform(), mask, config)
    return jnp.mean(got.mlm_logits**2) + jnp.mean(got.context**2)

  expected, got = loss(params, TINY), loss(params, dataclasses.replace(TINY, remat="minimal"))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), got, expected)


def test_bfloat16_is_close(params):
  """Measured against the features' own unit variance."""
  half = features(params, waveform(), dataclasses.replace(TINY, dtype="bfloat16"))
  assert half.dtype == jnp.float32
  assert np.sqrt(np.mean(np.square(half - features(params, waveform())))) < 0.05


def test_xl_has_the_papers_size():
  xl = W2vBertConfig()
  module, shapes = W2vBert(xl), [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arguments(1)[:3]]
  init = lambda key, *x: module.init(key, *x, None, 1.0, deterministic=True)
  tree = jax.eval_shape(init, jax.random.key(0), *shapes)
  count = sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert (xl.contrastive_blocks, xl.mlm_blocks, xl.feature_block) == (12, 12, 7)
  assert 0.58e9 < count < 0.61e9


def test_depthwise_convolution_is_one():
  x = jax.random.normal(jax.random.key(0), (2, 9, 3))
  for kernel in (1, 2, 5, 31):
    conv = DepthwiseConv(kernel, jnp.float32)
    variables = nn.unbox(conv.init(jax.random.key(1), x))
    weights = variables["params"]["kernel"][:, None]  # [kernel, 1, channels]
    expected = jax.lax.conv_general_dilated(
      x, weights, (1,), "SAME", feature_group_count=3, dimension_numbers=("NWC", "WIO", "NWC")
    )
    np.testing.assert_allclose(conv.apply(variables, x), expected, atol=1e-5)


def test_layer_norm_is_flaxs():
  x = 3 + jax.random.normal(jax.random.key(0), (2, 5, 7))
  weights = {"scale": jnp.arange(7.0), "bias": jnp.ones(7)}
  expected = nn.LayerNorm(epsilon=1e-6).apply({"params": weights}, x)
  np.testing.assert_allclose(LayerNorm(jnp.float32).apply({"params": weights}, x), expected, rtol=1e-4)


def test_a_block_is_the_sum_of_its_branches():
  """With the last product of every branch zero but one's, the block is that branch alone."""
  block = ConformerBlock(2, 32, 5, 0.0, jnp.float32)
  x = jax.random.normal(jax.random.key(0), (1, 8, 16))
  params = nn.unbox(jax.jit(lambda: block.init(jax.random.key(1), x, True))())["params"]
  last = {"mlp_before": "wo", "attention": "out", "convolution": "out", "mlp_after": "wo"}
  zeroed = {
    name: {**params[name], out: jax.tree.map(jnp.zeros_like, params[name][out])} for name, out in last.items()
  }
  norm = lambda x: LayerNorm(jnp.float32).apply({"params": params["final_norm"]}, x)
  apply = jax.jit(lambda params: block.apply({"params": params}, x, True))
  run = lambda changed: apply({**params, **changed})
  np.testing.assert_allclose(run(zeroed), norm(x), atol=1e-5)
  for name in last:
    alone = run({other: branch for other, branch in zeroed.items() if other != name})
    assert np.abs(alone - norm(x)).max() > 1e-3
  half = run({name: branch for name, branch in zeroed.items() if name != "mlp_after"})
  mlp = params["mlp_after"]
  hidden = nn.swish(norm(x) @ mlp["wi"]["kernel"])
  np.testing.assert_allclose(half, norm(x + 0.5 * hidden @ mlp["wo"]["kernel"]), atol=1e-4)


@pytest.mark.parametrize(
  "change,message",
  [
    ({"num_heads": 3}, "does not divide into 3 heads"),
    ({"feature_block": 3}, "there are 2 MLM blocks"),
    ({"num_mels": 0}, "num_mels must be a whole number of at least 1"),
    ({"dtype": "float16"}, "unknown"),
    ({"remat": "some"}, "unknown"),
  ],
)
def test_impossible_settings(change, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(TINY, **change)


def test_description_round_trip():
  config = dataclasses.replace(TINY, remat="full")
  assert (
    W2vBertConfig.from_description(config.describe()) == TINY
  )  # the machine's settings are not part of it
