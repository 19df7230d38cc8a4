"""The embedded tokenisers: they load, have the paper's geometry, and keep a song that is new to them."""

import importlib.resources
import itertools

import numpy as np
import pytest

from singsong_jax.audio import resampling
from singsong_jax.audio.distances import log_mel_distance, si_sdr_db
from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.codecs.base import codec_from_spec
from singsong_jax.semantics.base import semantic_encoder_from_spec

FOLDER = importlib.resources.files("singsong_jax") / "pretrained"
LIMIT_BYTES = 10_000_000


@pytest.fixture(scope="module")
def codec():
  return codec_from_spec("soundstream")


@pytest.fixture(scope="module")
def encoder():
  return semantic_encoder_from_spec("w2v_bert")


@pytest.fixture(scope="module")
def song():
  """float32 `[5 s at 16 kHz]` of another seed than any of the training corpus."""
  made = synthesize_song(123_456, 5, sample_rate_hz=44_100)
  return resampling.resample(made.vocals + made.instrumental, 44_100, 16_000)


def test_they_are_small_and_documented(codec, encoder):
  assert sum(len(item.read_bytes()) for item in FOLDER.iterdir() if item.is_file()) < LIMIT_BYTES
  for name, tokenizer in {"soundstream": codec, "w2v_bert": encoder}.items():
    card = (FOLDER / f"{name}.md").read_text()
    assert tokenizer.fingerprint() in card  # it speaks of this file
    assert all(f"\n## {title}\n" in card for title in ("Data", "Commands", "Measured", "Licence"))


def test_the_papers_geometry(codec, encoder):
  ten_seconds = np.zeros(160_000, np.float32)
  assert (codec.frame_rate_hz, codec.num_levels, codec.num_codes) == (50, 12, 1024)
  codes = codec.encode(ten_seconds)
  assert codes.shape == (500, 12) and codec.decode(codes).shape == (160_000,)
  assert (encoder.frame_rate_hz, encoder.num_codes) == (25, 1024)
  assert encoder.encode(ten_seconds).shape == (250,)


def test_more_levels_keep_more_of_a_song(codec, song):
  codes = codec.encode(song)
  decoded = [codec.decode(codes[:, :levels])[: len(song)] for levels in (1, 4, 12)]
  for worse, better in itertools.pairwise(decoded):
    assert log_mel_distance(song, better, 16_000) < log_mel_distance(song, worse, 16_000)
    assert si_sdr_db(song, better) > si_sdr_db(song, worse)
  assert si_sdr_db(song, decoded[-1]) > 6


def test_semantic_codes_tell_sounds_apart(encoder, song):
  codes = encoder.encode(song)
  assert len(set(codes.tolist())) > len(codes) / 5
  np.testing.assert_array_equal(codes, encoder.encode(song))
