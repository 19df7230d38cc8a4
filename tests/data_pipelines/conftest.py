"""A folder of one-second-clip songs, small tokenisers and a cheap separator."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from data_pipelines import make_clips
from data_pipelines.settings import Settings
from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.semantics.logmel import fit_logmel_encoder

RATE_HZ = 44_100
NUM_CODES = 16


class HalfSeparator:
  """Everything is half voice; a song called `breaks…` breaks it at its second clip."""

  name = "half"
  batch_clips = 2

  def separate(self, clips):
    if any(clip.song.startswith("breaks") and clip.offset_seconds == 1.0 for clip in clips):
      raise RuntimeError("no idea")
    return np.stack([clip.mix / 2 for clip in clips])


def tone(seconds: float, frequency_hz: float = 220.0, amplitude: float = 0.5) -> np.ndarray:
  """A sine with noise, so that any separator finds something on both sides."""
  samples = np.arange(round(seconds * RATE_HZ))
  noise = np.random.default_rng(0).uniform(-1, 1, len(samples))
  return amplitude * (np.sin(2 * np.pi * frequency_hz / RATE_HZ * samples) + noise) / 2


@pytest.fixture
def songs(tmp_path):
  """Eight good songs of 2 clips, and one of every kind of trouble."""
  folder = tmp_path / "songs"
  (folder / "album").mkdir(parents=True)
  for index in range(8):
    name = f"album/{index}.wav" if index % 2 else f"{index}.flac"
    soundfile.write(folder / name, tone(2.4, 200 + 40 * index), RATE_HZ)
  soundfile.write(folder / "breaks.wav", tone(3.0), RATE_HZ)
  soundfile.write(folder / "quiet.wav", np.concatenate([tone(1), tone(1, amplitude=0.001)]), RATE_HZ)
  soundfile.write(folder / "short.wav", tone(0.9), RATE_HZ)
  (folder / "text.mp3").write_text("not audio")
  (folder / "empty.wav").touch()
  (folder / "cover.jpg").write_text("not even called audio")
  return folder


@pytest.fixture
def separator(monkeypatch):
  monkeypatch.setattr(make_clips, "get_separator", lambda spec: HalfSeparator())


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory):
  """Paths of a codec and a semantic encoder with 16 codes."""
  folder = tmp_path_factory.mktemp("tokenizers")
  clips = [np.random.default_rng(i).normal(0, 0.1, 16_000).astype(np.float32) for i in range(3)]
  codec, semantics = folder / "codec.npz", folder / "semantics.npz"
  fit_mdct_codec(clips, settings=MdctSettings(num_codes=NUM_CODES, iterations=1)).save(codec)
  fit_logmel_encoder(clips, num_codes=NUM_CODES).save(semantics)
  return str(codec), str(semantics)


@pytest.fixture
def settings(tokenizers):
  codec, semantics = tokenizers
  return Settings(codec=codec, semantics=semantics, window_seconds=1.0, noise_draws=2, num_shards=2)


@pytest.fixture
def contents():
  """Everything of a data directory that must be equal for equal jobs: path → bytes."""

  def read(root):
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

  return read


@pytest.fixture
def manifest_of():
  return lambda root: json.loads((root / "manifest.json").read_text())


@pytest.fixture
def replace():
  return dataclasses.replace
