"""Training codec and semantic encoder as commands: losses fall, a killed run goes on, exports work."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from singsong_jax.codecs.base import load_codec
from singsong_jax.semantics.base import load_semantic_encoder

ROOT = pathlib.Path(__file__).parent.parent
SYSTEMS = ("soundstream", "w2v_bert")
RATE_HZ = 16_000


def command(module, *arguments):
  return [sys.executable, "-m", module, *map(str, arguments)]


def training(system, audio, model_dir):
  files = [f"system/{system}", f"size/{system}/tiny", "hardware/cpu", f"trainer/{system}/native"]
  files = [f"--gin_file=gin/{name}.gin" for name in (*files, f"run/{system}/smoke")]
  return command("singsong_jax.train", *files, f"--gin.DATA_DIR='{audio}'", f"--gin.MODEL_DIR='{model_dir}'")


def run(words):
  result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"


def run_killed_after_a_checkpoint(words, model_dir):
  """SIGKILL as soon as the checkpoint of step 2 is there: in the midst of a later step, or of its writing."""
  process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  while process.poll() is None and not (model_dir / "checkpoints/2").exists():
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()


def losses(model_dir, split):
  lines = (model_dir / "metrics" / f"{split}.jsonl").read_text().splitlines()
  return {row["step"]: row["loss"] for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
  """Songs of a few notes each; enough of them that every split has some."""
  folder = tmp_path_factory.mktemp("audio")
  rng = np.random.default_rng(0)
  for song in range(30):
    hz = np.repeat(220 * 2 ** (rng.integers(0, 24, 12) / 12), RATE_HZ // 4)
    phases = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    notes = 0.2 * (np.sin(phases) + 0.5 * np.sin(2 * phases)) + 0.01 * rng.normal(size=len(hz))
    soundfile.write(folder / f"song {song}.wav", notes, RATE_HZ)
  return folder


@pytest.fixture(scope="module", params=SYSTEMS)
def models(request, audio, tmp_path_factory):
  """System, model directory of an uninterrupted run, model directory of a killed and continued one."""
  folder = tmp_path_factory.mktemp(request.param)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    patch.setenv("SINGSONG_CACHE_DIR", str(folder / "cache"))
    whole, parts = folder / "whole", folder / "parts"
    run(training(request.param, audio, whole))
    words = training(request.param, audio, parts)
    run_killed_after_a_checkpoint(words, parts)
    run(words)
    yield request.param, whole, parts


@pytest.mark.slow
def test_the_loss_falls(models):
  _, whole, _ = models
  of_training = list(losses(whole, "train").values())
  of_evaluation = list(losses(whole, "eval").values())
  assert of_training[-1] < of_training[0] and of_evaluation[-1] < of_evaluation[0]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(models):
  _, whole, parts = models
  for split in ("train", "eval"):
    assert losses(parts, split) == losses(whole, split)


@pytest.mark.slow
def test_what_was_trained_becomes_a_tokenizer(models, audio, tmp_path):
  system, whole, _ = models
  output = tmp_path / "tokenizer.npz"
  waveform, _ = soundfile.read(audio / "song 0.wav", dtype="float32")
  if system == "soundstream":
    run(command("singsong_jax.export_codec", f"--model_dir={whole}", f"--output={output}"))
    codec = load_codec(output)
    codes = codec.encode(waveform)
    assert codes.shape == (150, 12) and codec.decode(codes).shape == (48_000,)
  else:
    flags = (f"--model_dir={whole}", f"--data_dir={audio}", f"--output={output}", "--num_codes=32")
    run(command("data_pipelines.fit_semantics", *flags))
    codes = load_semantic_encoder(output).encode(waveform)
    assert codes.shape == (75,) and len(set(codes.tolist())) > 3
