"""The picture, and what a training run writes for the ear."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from singsong_jax.inference import picture
from singsong_jax.inference.callbacks import AudioSamples
from singsong_jax.inference.tokenizers import FOLDER


@pytest.mark.slow
def test_the_picture_shows_something_with_and_without_a_loss_curve(tmp_path, voice):
  tracks = {"vocals": voice(1.0), "mix": voice(1.0, pitch_hz=100)}
  picture.draw(tmp_path / "bare.png", tracks, 16_000, tmp_path)
  metrics = tmp_path / "metrics"
  metrics.mkdir()
  rows = [json.dumps({"step": i, "loss": 9.0 - i}) for i in range(3)]
  (metrics / "train.jsonl").write_text("\n".join(rows) + "\n")
  picture.draw(tmp_path / "full.png", tracks, 16_000, tmp_path)
  bare, full = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("bare", "full"))
  assert bare.shape == full.shape
  assert bare.std() > 10
  assert not np.array_equal(bare, full)


class RecordingWriter:
  def write_audios(self, step, audios, *, sample_rate):
    self.call = (step, audios, sample_rate)


@pytest.mark.parametrize("num_samples", [0, 2])
def test_audio_samples_at_evaluation(tokenizers_dir, tmp_path, system, num_samples):
  model = system()
  samples = AudioSamples(data_dir=str(tokenizers_dir.parent), num_samples=num_samples)
  samples.on_start(str(tmp_path), model)
  assert (tmp_path / FOLDER / "codec.npz").exists()
  starts = model.target_layout.block_starts
  batch = {
    "encoder_input_tokens": np.full((3, model.input_layout.length), 2, np.int32),
    "decoder_target_tokens": np.tile(starts + 3, (3, 1)),
  }
  writer = RecordingWriter()
  samples.on_eval(5, model.init(jax.random.key(0)), batch, writer)
  if not num_samples:
    assert not hasattr(writer, "call")
    return
  step, audios, rate_hz = writer.call
  assert (step, rate_hz) == (5, 16_000)
  assert {name: audio.shape for name, audio in audios.items()} == {
    "generated": (2, 16_000, 1),
    "reference": (2, 16_000, 1),
  }
  assert all(np.abs(audio).max() <= 1 for audio in audios.values())
