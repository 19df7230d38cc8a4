"""The w2v-BERT backend: lengths, batches, long input, files, bad input."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks.w2v_bert import W2vBert, W2vBertConfig
from singsong_jax.semantics.base import load_semantic_encoder
from singsong_jax.semantics.quantizer import FeatureQuantizer, fit_quantizer
from singsong_jax.semantics.w2v_bert import W2vBertEncoder, W2vBertFeatures
from singsong_jax.systems.w2v_bert import W2vBertSystem

CONFIG = W2vBertConfig(
  num_mels=16,
  conv_channels=4,
  emb_dim=16,
  num_heads=2,
  mlp_dim=32,
  contrastive_blocks=1,
  mlm_blocks=2,
  feature_block=1,
  num_codes=8,
  code_dim=4,
)


@functools.cache
def trained(seed=0):
  """All parameters, as a checkpoint has them."""
  shapes = nn.unbox(jax.eval_shape(W2vBertSystem(network=CONFIG).init, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


def music(samples, rows=2, seed=0):
  return 0.3 * np.random.default_rng(seed).normal(size=(rows, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
  extractor = W2vBertFeatures.from_params(CONFIG, trained())
  features = extractor.features(music(160_000, rows=6, seed=1)).reshape(-1, CONFIG.emb_dim)
  return W2vBertEncoder.from_parts(extractor, fit_quantizer(lambda: [features], 32, seed=0), {"step": 7})


def test_ten_seconds_are_250_codes(encoder):
  codes = encoder.encode(music(160_000, rows=1)[0])
  assert codes.shape == (250,) and codes.dtype == np.int32
  assert 0 <= codes.min() < codes.max() < 32
  assert (encoder.sample_rate_hz, encoder.frame_rate_hz, encoder.num_codes) == (16_000, 25, 32)


@pytest.mark.parametrize("samples,frames", [(0, 0), (1, 1), (640, 1), (641, 2)])
def test_any_length_is_filled_up_to_whole_frames(encoder, samples, frames):
  waveform = music(samples)
  codes = encoder.encode(waveform)
  assert codes.shape == (2, frames)
  whole = np.pad(waveform, ((0, 0), (0, frames * 640 - samples)))
  np.testing.assert_array_equal(codes, encoder.encode(whole))


def test_features_are_the_networks_own_however_many_clips_there_are(encoder):
  waveform = music(1280, rows=9)
  features = encoder.extractor.features(waveform)
  rounded = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), trained())
  expected = jax.jit(functools.partial(W2vBert(CONFIG).apply, method="features"))(
    {"params": rounded}, waveform
  )
  np.testing.assert_allclose(features, expected, atol=1e-4)
  np.testing.assert_allclose(encoder.extractor.features(waveform[8]), features[8], atol=1e-4)
  nested = encoder.extractor.features(waveform[:6].reshape(2, 3, 1280))
  np.testing.assert_allclose(nested.reshape(6, 2, 16), features[:6], atol=1e-4)


def test_long_input_is_heard_in_pieces_of_ten_seconds(encoder):
  waveform = music(35 * 16_000 + 1, rows=2)
  features = encoder.extractor.features(waveform)
  assert features.shape == (2, 876, 16)
  pieces = np.stack([waveform[:, i * 160_000 : (i + 1) * 160_000] for i in range(3)])
  np.testing.assert_allclose(
    features[:, :750].reshape(2, 3, 250, 16).swapaxes(0, 1), encoder.extractor.features(pieces), atol=1e-4
  )
  # The last piece is as long, and begins where it has to.
  last = encoder.extractor.features(waveform[:, 626 * 640 :])
  np.testing.assert_allclose(features[:, 750:], last[:, -126:], atol=1e-4)


def test_files_keep_every_code_and_nothing_that_only_training_needs(encoder, tmp_path):
  encoder.save(tmp_path / "semantics.npz")
  loaded = load_semantic_encoder(tmp_path / "semantics.npz")
  other = dataclasses.replace(encoder, extractor=W2vBertFeatures.from_params(CONFIG, trained(seed=1)))
  assert loaded.fingerprint() == encoder.fingerprint() != other.fingerprint()
  assert loaded.source == {"step": 7} and loaded.name == "w2v_bert"
  np.testing.assert_array_equal(loaded.encode(music(1280)), encoder.encode(music(1280)))
  modules = {name.split("/")[1] for name in encoder._file().arrays if "/" in name}
  assert modules == trained().keys() - {"codebook", "code_logits", "mlm_logits", "context_out", "mlm_1"}


def test_a_file_whose_parts_do_not_fit_is_refused(encoder, tmp_path):
  file = encoder._file()
  kernel = "network/project/kernel"
  for change, message in (
    ({"settings": {**file.settings, "emb_dim": 32}}, "has shape"),
    ({"settings": {**file.settings, "feature_block": 2}}, "mlm_1/.* has shape None"),
    ({"settings": {**file.settings, "stride": 2}}, "stride"),
    ({"arrays": {**file.arrays, kernel: np.full_like(file.arrays[kernel], np.inf)}}, "not finite"),
    ({"arrays": {**file.arrays, "mean": np.full(16, np.nan)}}, "mean has values that are not finite"),
    ({"arrays": {**file.arrays, "mean": np.zeros(8, np.float32)}}, r"mean has shape \(8,\)"),
    ({"arrays": {**file.arrays, "centroids": np.zeros((0, 16))}}, r"centroids has shape \(0, 16\)"),
    ({"arrays": {name: file.arrays[name] for name in file.arrays if name != "scale"}}, "scale"),
  ):
    dataclasses.replace(file, **change).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match=message):
      load_semantic_encoder(tmp_path / "other.npz")


def test_weights_too_large_for_a_file():
  params = jax.tree.map(lambda x: x, trained())
  params["project"]["kernel"] = params["project"]["kernel"] + 1e6
  with pytest.raises(ValueError, match="project/kernel has values that are not finite in float16"):
    W2vBertFeatures.from_params(CONFIG, params)


def test_a_code_book_of_other_features(encoder):
  other = FeatureQuantizer(mean=np.zeros(4), scale=np.ones(4), centroids=np.zeros((8, 4)))
  with pytest.raises(ValueError, match=r"mean has shape \(4,\), the settings ask for \(16,\)"):
    W2vBertEncoder.from_parts(encoder.extractor, other, {})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(encoder, value):
  with pytest.raises(InputError, match="NaN or infinite"):
    encoder.encode(np.full(640, value, np.float32))
