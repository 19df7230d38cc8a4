"""The whole chain on six short songs, as commands: synthesise, prepare, train both stages, resume, infer."""

import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from singsong_jax.tokens.featurization import layouts
from singsong_jax.tokens.fine import FineLayout

ROOT = pathlib.Path(__file__).parent.parent
SHARED_AXES = ("hardware/cpu", "trainer/native")
AXES = {
  "singsong": ("system/singsong", "size/tiny", "vocals/noisy", "features/s_sa", "run/smoke", *SHARED_AXES),
  "fine": ("system/fine", "size/fine/tiny", "run/fine/smoke", *SHARED_AXES),
}
OUTPUTS = {"output": (), "coarse_output": ("--skip_fine",)}


def run(module, *arguments):
  command = [sys.executable, "-m", module, *map(str, arguments)]
  environment = {**os.environ, "XLA_FLAGS": ""}  # these commands do compute
  result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
  return result.stdout + result.stderr


def train(data_dir, model_dir, total_steps, system="singsong"):
  files = [f"--gin_file=gin/{axis}.gin" for axis in AXES[system]]
  macros = [f"--gin.DATA_DIR='{data_dir}'", f"--gin.MODEL_DIR='{model_dir}'"]
  return run("singsong_jax.train", *files, *macros, f"--gin.train.total_steps={total_steps}")


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
  """The commands share what they compile."""
  folder = str(tmp_path_factory.mktemp("cache"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
    patch.setenv("SINGSONG_CACHE_DIR", folder)
    yield


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """Runs the chain once; the folder it left."""
  folder = tmp_path_factory.mktemp("chain")
  run("data_pipelines.synthesize", f"--output_dir={folder}/corpus", "--num_songs=6", "--song_seconds=10")
  run(
    "data_pipelines.prepare",
    f"--songs={folder}/corpus/songs",
    f"--output_dir={folder}/data",
    "--validation_fraction=0.4",
  )
  train(folder / "data", folder / "model", 2)
  train(folder / "data", folder / "model", 4)
  train(folder / "data", folder / "model/fine", 4, "fine")
  for output, flags in OUTPUTS.items():
    run(
      "singsong_jax.infer",
      f"--vocals={folder}/corpus/stems/song_00000/vocals.wav",
      f"--model_dir={folder}/model",
      f"--output_dir={folder}/{output}",
      *flags,
    )
  return folder


@pytest.mark.slow
def test_every_clip_is_accounted_for(chain):
  counts = json.loads((chain / "data/manifest.json").read_text())["counts"]["clips"]
  assert counts["in"] == 6
  assert counts["kept"] + sum(counts["filtered"].values()) + counts["dead_lettered"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
  ("model", "num_ids"),
  [("model", layouts("s_sa")[1].vocabulary.size), ("model/fine", FineLayout().vocabulary_size)],
)
def test_the_loss_starts_where_an_ignorant_model_does_and_falls(chain, model, num_ids):
  rows = [json.loads(line) for line in (chain / model / "metrics/train.jsonl").read_text().splitlines()]
  losses = [row["loss"] for row in rows]
  assert rows[-1]["step"] == 4
  assert losses[0] == pytest.approx(math.log(num_ids), abs=1.0)
  assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_continued_run_has_the_uninterrupted_ones_losses(chain):
  """2 + 2 steps in two processes against 4 in one: real model, real data, to the last bit."""
  train(chain / "data", chain / "whole", 4)
  for split in ("train", "eval"):
    losses = []
    for model in ("model", "whole"):
      lines = (chain / model / "metrics" / f"{split}.jsonl").read_text().splitlines()
      losses.append({row["step"]: row["loss"] for row in map(json.loads, lines)})
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_the_accompaniment_is_audible_and_as_long_as_the_vocal(chain):
  vocals, vocals_rate_hz = soundfile.read(chain / "corpus/stems/song_00000/vocals.wav")
  for output in OUTPUTS:
    for name in ("instrumental", "mix"):
      waveform, rate_hz = soundfile.read(chain / output / f"{name}.wav")
      assert (len(waveform), rate_hz) == (len(vocals), vocals_rate_hz)
      assert np.sqrt(np.mean(waveform**2)) > 1e-3
  assert (chain / "output/picture.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_fine_stage_changes_what_is_heard(chain):
  fine, coarse = (soundfile.read(chain / output / "instrumental.wav")[0] for output in OUTPUTS)
  assert not np.array_equal(fine, coarse)
  details = [json.loads((chain / output / "accompaniment.json").read_text()) for output in OUTPUTS]
  assert details[0]["fine_model"] and details[1]["fine_model"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("model", "audio"), [("model", "generated"), ("model/fine", "coarse_only")])
def test_tensorboard_has_scalars_and_audio(chain, model, audio):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  tags = set()
  for events in (chain / model / "tensorboard").rglob("events.*"):
    reader = EventAccumulator(str(events.parent))
    reader.Reload()
    tags |= set(reader.Tags()["tensors"]) | set(reader.Tags()["audio"]) | set(reader.Tags()["scalars"])
  assert any("loss" in tag for tag in tags)
  assert any(audio in tag for tag in tags)
