"""The picture, and what a training run writes for the ear."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from singsong_jax.codecs.base import load_codec
from singsong_jax.inference import picture
from singsong_jax.inference.callbacks import AudioSamples, fine_codes, singsong_codes
from singsong_jax.inference.tokenizers import FOLDER
from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.systems.fine import Fine
from singsong_jax.tokens.fine import FineLayout


@pytest.mark.slow
def test_the_picture_shows_something_with_and_without_a_loss_curve(tmp_path, voice):
  tracks = {"vocals": voice(1.0), "mix": voice(1.0, pitch_hz=100)}
  picture.draw(tmp_path / "bare.png", tracks, 16_000, tmp_path, 6.93)
  metrics = tmp_path / "metrics"
  metrics.mkdir()
  rows = [json.dumps({"step": i, "loss": 9.0 - i}) for i in range(3)]
  (metrics / "train.jsonl").write_text("\n".join(rows) + "\n")
  picture.draw(tmp_path / "full.png", tracks, 16_000, tmp_path, 6.93)
  bare, full = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("bare", "full"))
  assert full.shape[0] == bare.shape[0] * 3 // 2  # a third panel
  assert bare.std() > 10


class RecordingWriter:
  def write_audios(self, step, audios, *, sample_rate):
    self.call = (step, audios, sample_rate)


def audios_of(callback, model, model_dir, batch):
  """What the callback writes at an evaluation, or None."""
  callback.on_start(str(model_dir), model)
  assert (model_dir / FOLDER / "codec.npz").exists()
  writer = RecordingWriter()
  callback.on_eval(5, model.init(jax.random.key(0)), batch, writer)
  if not hasattr(writer, "call"):
    return None
  step, audios, rate_hz = writer.call
  assert (step, rate_hz) == (5, 16_000)
  assert all(np.abs(audio).max() <= 1 for audio in audios.values())
  return audios


@pytest.mark.parametrize("num_samples", [0, 2])
def test_audio_of_singsong(tokenizers_dir, tmp_path, system, num_samples):
  model = system()
  samples = AudioSamples(data_dir=str(tokenizers_dir.parent), codes=singsong_codes, num_samples=num_samples)
  batch = {
    "encoder_input_tokens": np.full((3, model.input_layout.length), 2, np.int32),
    "decoder_target_tokens": np.tile(model.target_layout.block_starts + 3, (3, 1)),
  }
  audios = audios_of(samples, model, tmp_path, batch)
  if not num_samples:
    assert audios is None
    return
  assert {name: audio.shape for name, audio in audios.items()} == {
    "generated": (2, 16_000, 1),
    "reference": (2, 16_000, 1),
  }


def test_audio_of_the_fine_stage(tokenizers_dir, tmp_path, voice):
  codec = load_codec(tokenizers_dir / "codec.npz")
  layout = FineLayout(num_acoustic_codes=codec.num_codes, chunk_seconds=0.5)
  network = DecoderOnlyConfig(emb_dim=16, num_heads=1, head_dim=8, mlp_dim=16, num_decoder_layers=1)
  ids = layout.encode(codec.encode(voice(0.5)[None]))
  samples = AudioSamples(data_dir=str(tokenizers_dir.parent), codes=fine_codes)
  audios = audios_of(samples, Fine(network=network, layout=layout), tmp_path, {"decoder_target_tokens": ids})
  assert {name: audio.shape for name, audio in audios.items()} == dict.fromkeys(
    ("generated", "reference", "coarse_only"), (1, 8000, 1)
  )
  assert len({audio.tobytes() for audio in audios.values()}) == 3
