"""From a checkpoint of w2v-BERT and audio to a tokeniser's file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import linen as nn

from data_pipelines import clip_records, code_book
from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.networks.w2v_bert import W2vBertConfig
from singsong_jax.semantics.base import load_semantic_encoder
from singsong_jax.systems.w2v_bert import W2vBertSystem
from singsong_jax.training.checkpoints import Checkpoints
from singsong_jax.training.state import TrainState
from tasks import schema

RATE = 16_000
SYSTEM = W2vBertSystem(
  network=W2vBertConfig(
    num_mels=16,
    conv_channels=2,
    emb_dim=8,
    num_heads=2,
    mlp_dim=16,
    contrastive_blocks=1,
    mlm_blocks=1,
    feature_block=1,
    num_codes=4,
    code_dim=4,
  )
)


def shapes():
  return nn.unbox(jax.eval_shape(SYSTEM.init, jax.random.key(0)))


class NoData:
  def save(self, folder):
    (folder / "position").write_text("0")


def checkpoint(model_dir, step, params):
  files.make_folder(model_dir)
  files.write_json(model_dir / "model.json", SYSTEM.describe())
  with Checkpoints(model_dir, keep=9) as checkpoints:
    checkpoints.save(step, TrainState(jnp.int32(step), params, {"none": jnp.zeros(1)}), NoData(), {})


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("w2v")
  for step in (1, 2):
    draw = np.random.default_rng(step).normal
    checkpoint(
      path, step, jax.tree.map(lambda leaf, draw=draw: np.float32(draw(0, 0.3, leaf.shape)), shapes())
    )
  return path


def write_clips(root, songs=6, seconds=2.0, level=0.1):
  root.mkdir(parents=True)
  (root / "job.json").write_text("{}")
  (root / "songs").mkdir()
  lines = [json.dumps({"id": f"song_{song}.wav"}) for song in range(songs)]
  (root / "songs" / "train-00000-of-00001.jsonl").write_text("\n".join(lines))
  rng = np.random.default_rng(0)
  for song in range(songs):
    stems = level * rng.normal(size=(2, round(seconds * RATE))).astype(np.float32)
    record = clip_records.ClipRecord(
      clip_id=f"song_{song}@0",
      song_id=f"song_{song}.wav",
      offset_seconds=0.0,
      sample_rate_hz=RATE,
      vocals=stems[0],
      instrumental=stems[1],
      vocals_peak_rms_db=-20.0,
      instrumental_peak_rms_db=-20.0,
    )
    schema.write_records(root / "clips" / "00" / f"{song:016d}.tfrecord", [clip_records.serialize(record)])
  return root


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return write_clips(tmp_path_factory.mktemp("data") / "data")


def test_codes_are_fitted_to_both_stems_of_every_clip(model_dir, data_dir, tmp_path):
  encoder = code_book.fit(model_dir, data_dir, num_codes=16)
  encoder.save(tmp_path / "semantics.npz")
  loaded = load_semantic_encoder(tmp_path / "semantics.npz")
  assert (loaded.num_codes, loaded.frame_rate_hz) == (16, 25)
  assert {key: loaded.source[key] for key in ("step", "clips", "frames", "seed")} == {
    "step": 2,
    "clips": 6,
    "frames": 6 * 2 * 50,
    "seed": 0,
  }
  assert loaded.source["system"] == json.loads((model_dir / "model.json").read_text())
  assert code_book.fit(model_dir, data_dir, num_codes=16).fingerprint() == loaded.fingerprint()


def test_what_is_heard(data_dir):
  """Vocals with the paper's noise, which differs from clip to clip, and instrumentals as they are."""
  units = code_book.find_units(data_dir, "train")
  heard = list(code_book._heard(units, np.arange(6), RATE, seed=3))
  assert len(heard) == 12
  vocals, instrumentals = (
    [units.read(index, stream, RATE, 10.0, 0.0) for index in range(6)]
    for stream in ("vocals", "instrumental")
  )
  noise = np.stack(heard[::2]) - np.stack(vocals)
  np.testing.assert_allclose(noise.std(axis=1), 0.01, rtol=0.05)
  assert np.abs(np.corrcoef(noise) - np.eye(6)).max() < 0.05
  np.testing.assert_array_equal(heard[1::2], instrumentals)


def test_a_step_a_seed_and_fewer_clips(model_dir, data_dir):
  encoders = [
    code_book.fit(model_dir, data_dir, num_codes=8, **changes)
    for changes in ({}, {"step": 1}, {"seed": 1}, {"max_clips": 2})
  ]
  assert len({encoder.fingerprint() for encoder in encoders}) == 4
  assert encoders[1].source["step"] == 1 and encoders[3].source["frames"] == 200


def test_a_folder_of_audio_is_heard_as_it_is(model_dir, tmp_path):
  rng = np.random.default_rng(0)
  for song in range(3):
    sound = 0.1 * rng.normal(size=(2 * 22_050, 2))
    soundfile.write(tmp_path / f"song {song}.wav", sound, 22_050)
  units = code_book.find_units(tmp_path, "train")
  encoder = code_book.fit(model_dir, tmp_path, num_codes=8)
  assert encoder.source["clips"] == len(units) and encoder.source["frames"] == 50 * len(units)


def test_what_cannot_be_fitted(model_dir, data_dir, tmp_path):
  with pytest.raises(InputError, match="600 frames of features are fewer than the 601 codes"):
    code_book.fit(model_dir, data_dir, num_codes=601)
  with pytest.raises(InputError, match=r"all 2 clips of .* are silent"):
    code_book.fit(model_dir, write_clips(tmp_path / "silent", songs=2, level=0.0), num_codes=4)
  with pytest.raises(InputError, match="no audio files"):
    code_book.fit(model_dir, files.make_folder(tmp_path / "empty"), num_codes=4)
  with pytest.raises(InputError, match=r"no model.json"):
    code_book.fit(tmp_path / "nothing", data_dir)


def test_checkpoints_that_make_no_encoder(data_dir, tmp_path):
  checkpoint(tmp_path, 5, jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, np.float32), shapes()))
  with pytest.raises(InputError, match=r"step 5 of .* makes no encoder: .* not finite"):
    code_book.fit(tmp_path, data_dir)


def test_a_model_of_another_system(data_dir, monkeypatch):
  class Other:
    name = "singsong"

  monkeypatch.setattr(code_book, "load_checkpoint", lambda *args: (Other(), {}, 1))
  with pytest.raises(InputError, match="a model of the system 'singsong', not an encoder's: 'w2v_bert'"):
    code_book.fit("runs/base", data_dir)
