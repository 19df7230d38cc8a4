"""Four songs, and an exported model of the smallest SingSong with random weights."""

import flax.linen as nn
import jax
import pytest

from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.inference.tokenizers import FOLDER
from singsong_jax.training.exported import write_exported
from tests.small_models import fit_tokenizers, make_system


@pytest.fixture(scope="session")
def songs_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("songs")
  write_corpus(folder, CorpusSettings(num_songs=4, song_seconds=4, seed=11), num_processes=1)
  return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory, songs_dir):
  folder, system = tmp_path_factory.mktemp("model"), make_system()
  fit_tokenizers([song.read_instrumental() for song in find_songs(songs_dir)], folder / FOLDER)
  write_exported(folder, system, nn.unbox(jax.jit(system.init)(jax.random.key(0))), 5)
  return folder
