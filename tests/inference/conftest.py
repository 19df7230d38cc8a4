"""A model directory of the smallest SingSong: 1 s windows, 16 codes a book, random weights."""

import types

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from singsong_jax import infer
from singsong_jax.inference.tokenizers import FOLDER, ship_tokenizers
from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.systems.fine import Fine
from singsong_jax.tokens.fine import FineLayout
from singsong_jax.training import optimizers
from singsong_jax.training.checkpoints import Checkpoints
from singsong_jax.training.descriptions import write_description
from singsong_jax.training.state import init_state
from tests.small_models import CODES, fit_tokenizers, make_system

RATE_HZ = 16_000


def make_voice(seconds, rate_hz=RATE_HZ, pitch_hz=220.0, level=0.3):
  """A gliding buzz, float32 [samples]."""
  times = np.arange(round(seconds * rate_hz)) / rate_hz
  phase = 2 * np.pi * pitch_hz * (times + 0.02 * np.sin(3 * times))
  return (level * sum(np.sin(k * phase) / k for k in range(1, 8)) / 1.5).astype(np.float32)


def make_fine(**changes):
  network = DecoderOnlyConfig(
    emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32, num_decoder_layers=1, dtype="float32"
  )
  return Fine(
    network=network, layout=FineLayout(**{"num_acoustic_codes": CODES, "chunk_seconds": 0.3} | changes)
  )


@pytest.fixture(scope="session")
def tokenizers_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / FOLDER
  clips = [make_voice(2, pitch_hz=pitch) for pitch in (110, 220, 330)]
  fit_tokenizers(clips, folder)
  return folder


@pytest.fixture(scope="session")
def make_model(tmp_path_factory, tokenizers_dir):
  """`make_model(system)` → a model directory with one checkpoint and the tokenisers."""

  def make(system):
    model_dir = tmp_path_factory.mktemp("model")
    write_description(model_dir, system)
    optimizer = optimizers.adafactor(optimizers.rsqrt_decay())
    state = jax.jit(lambda: init_state(system, optimizer.transformation, 0))()
    with Checkpoints(model_dir, keep=1) as checkpoints:
      checkpoints.save(7, state, types.SimpleNamespace(save=lambda folder: None), {})
    ship_tokenizers(tokenizers_dir, model_dir)
    return model_dir

  return make


@pytest.fixture(scope="session")
def model_dir(make_model):
  return make_model(make_system())


@pytest.fixture(scope="session")
def fine_model_dir(make_model):
  return make_model(make_fine())


@pytest.fixture
def voice():
  return make_voice


@pytest.fixture
def system():
  return make_system


@pytest.fixture
def fine_system():
  return make_fine


@pytest.fixture
def run_infer(tmp_path, model_dir):
  """`run_infer(vocals, **flags)` runs the command in this process and returns its output folder."""

  def run(vocals, **changes):
    output_dir = tmp_path / "out"
    values = {"vocals": str(vocals), "model_dir": str(model_dir), "output_dir": str(output_dir)} | changes
    flags.FLAGS.mark_as_parsed()  # parsing would leave this test's values to the next
    with flagsaver.flagsaver(**values):
      infer.main([])
    return output_dir

  return run
