"""Four songs, and a model directory of the smallest SingSong with random weights: 1 s windows, 16 codes a
book.
"""

import flax.linen as nn
import jax
import pytest

from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.inference.tokenizers import FOLDER
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.semantics.logmel import fit_logmel_encoder
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training.exported import write_exported

CODES = 16
SYSTEM = SingSong(
  network=EncoderDecoderConfig(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dtype="float32",
  ),
  vocabulary=Vocabulary(num_semantic_codes=CODES, num_acoustic_codes=CODES),
  geometry=Geometry(window_seconds=1),
)


@pytest.fixture(scope="session")
def songs_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("songs")
  write_corpus(folder, CorpusSettings(num_songs=4, song_seconds=4, seed=11), num_processes=1)
  return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory, songs_dir):
  folder = tmp_path_factory.mktemp("model")
  clips = [song.read_instrumental() for song in find_songs(songs_dir)]
  fit_mdct_codec(clips, settings=MdctSettings(num_codes=CODES, sweep_seconds=1)).save(
    folder / FOLDER / "codec.npz"
  )
  fit_logmel_encoder(clips, num_codes=CODES).save(folder / FOLDER / "semantics.npz")
  write_exported(folder, SYSTEM, nn.unbox(jax.jit(SYSTEM.init)(jax.random.key(0))), 5)
  return folder
