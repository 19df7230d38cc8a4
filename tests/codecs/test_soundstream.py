"""The SoundStream backend: lengths, streams, files, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.audio import fitted_file
from singsong_jax.codecs import soundstream
from singsong_jax.codecs.base import load_codec
from singsong_jax.codecs.soundstream import SoundStreamCodec
from singsong_jax.errors import InputError
from singsong_jax.networks.soundstream.config import SoundStreamConfig
from singsong_jax.networks.soundstream.generator import Decoder, Encoder

CONFIG = SoundStreamConfig(encoder_channels=1, decoder_channels=1, latent_dim=4, num_levels=12, num_codes=32)


def make(config=CONFIG, seed=0):
  keys = jax.random.split(jax.random.key(seed), 3)
  networks = {
    "encoder": Encoder(config).init(keys[0], jnp.zeros((1, config.hop_samples)))["params"],
    "decoder": Decoder(config).init(keys[1], jnp.zeros((1, 1, config.latent_dim)))["params"],
  }
  # As after training: residual units that do something.
  networks = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(keys[2], x.shape), networks)
  entries = 0.5 * jax.random.normal(keys[2], (config.num_levels, config.num_codes, config.latent_dim))
  return SoundStreamCodec.from_parts(config, networks, entries, {"step": 7})


@pytest.fixture(scope="module")
def codec():
  return make()


def music(samples, rows=2):
  return 0.3 * np.random.default_rng(0).normal(size=(rows, samples)).astype(np.float32)


def test_ten_seconds_are_500_frames_and_back(codec):
  codes = codec.encode(music(160_000, rows=1)[0])
  assert codes.shape == (500, 12) and codes.dtype == np.int32
  assert codec.decode(codes).shape == (160_000,)
  assert (codec.frame_rate_hz, codec.num_levels, codec.num_codes) == (50, 12, 32)


@pytest.mark.parametrize("samples,frames", [(0, 0), (1, 1), (320, 1), (321, 2), (16_000, 50), (16_001, 51)])
def test_any_length_is_filled_up_to_whole_frames(codec, samples, frames):
  waveform = music(samples)
  codes = codec.encode(waveform)
  assert codes.shape == (2, frames, 12)
  assert codec.decode(codes).shape == (2, frames * 320)
  whole = np.pad(waveform, ((0, 0), (0, frames * 320 - samples)))
  np.testing.assert_array_equal(codes, codec.encode(whole))


def test_chunks_give_what_the_whole_gives(codec, monkeypatch):
  waveform = music(8000)
  chunks = np.split(waveform, [320, 1280, 4480], axis=1)
  codes = codec.encode(waveform)
  np.testing.assert_array_equal(np.concatenate(list(codec.encode_stream(chunks)), axis=1), codes)
  pieces = codec.decode_stream(np.split(codes, [1, 3, 20], axis=1))
  np.testing.assert_allclose(np.concatenate(list(pieces), axis=1), codec.decode(codes), atol=1e-5)
  # And what `encode` and `decode` themselves cut for the sake of memory.
  monkeypatch.setattr(soundstream, "_CHUNK_FRAMES", 10)
  np.testing.assert_array_equal(codec.encode(waveform), codes)


def test_a_piece_with_its_context_sounds_as_in_the_whole(codec):
  codes = codec.encode(music(24_000, rows=1))
  context, first = codec.context_frames, 40
  piece = codec.decode(codes[:, first - context : first + 5], first_frame=first - context)
  whole = codec.decode(codes)
  np.testing.assert_allclose(piece[:, context * 320 :], whole[:, first * 320 : (first + 5) * 320], atol=1e-5)


def test_leading_levels_decode_alone(codec):
  codes = codec.encode(music(3200))
  coarse = codec.decode(codes[..., :4])
  assert coarse.shape == (2, 3200) and np.abs(coarse - codec.decode(codes)).max() > 1e-3


def test_files_keep_every_code(codec, tmp_path):
  codec.save(tmp_path / "codec.npz")
  loaded = load_codec(tmp_path / "codec.npz")
  assert loaded.fingerprint() == codec.fingerprint() != make(seed=1).fingerprint()
  assert loaded.source == {"step": 7}
  np.testing.assert_array_equal(loaded.encode(music(3200)), codec.encode(music(3200)))


def test_a_checkpoint_of_another_geometry_is_refused(codec, tmp_path):
  file = codec._file()
  for change, message in (
    ({"settings": {**file.settings, "latent_dim": 8}}, "has shape"),
    ({"settings": {**file.settings, "strides": [2, 4, 5]}}, "has shape"),
    ({"arrays": {**file.arrays, "entries": np.zeros_like(file.arrays["entries"])}}, "fit_codebooks_at"),
    ({"arrays": {**file.arrays, "entries": np.full_like(file.arrays["entries"], np.inf)}}, "not finite"),
    ({"arrays": {"entries": file.arrays["entries"]}}, "has shape None"),
  ):
    dataclasses.replace(file, **change).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match=message):
      load_codec(tmp_path / "other.npz")
  assert fitted_file.load_fitted_file(tmp_path / "other.npz").kind == "soundstream"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(codec, value):
  with pytest.raises(InputError, match="NaN or infinite"):
    codec.encode(np.full(320, value, np.float32))


@pytest.mark.parametrize("codes", [np.zeros((2, 13), int), np.full((2, 12), 32), np.full((2, 12), -1)])
def test_codes_that_are_none(codec, codes):
  with pytest.raises(InputError, match="codes"):
    codec.decode(codes)


def test_chunks_must_be_whole_frames(codec):
  with pytest.raises(InputError, match="whole frames of 320"):
    list(codec.encode_stream([np.zeros((1, 100), np.float32)]))
