"""Against a stand-in for the package: what it is given, and that the run is continued."""

import json
import sys
import types

import numpy as np
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training import loop
from singsong_jax.training.weights_and_biases import WeightsAndBiases


class Run:
  def __init__(self):
    self.axes, self.lines, self.finished = {}, [], False

  def define_metric(self, name, step_metric=None):
    self.axes[name] = step_metric

  def log(self, values):
    self.lines.append(values)

  def finish(self):
    self.finished = True


@pytest.fixture
def wandb(monkeypatch):
  module = types.ModuleType("wandb")
  module.runs = []

  def init(**settings):
    module.runs.append((settings, Run()))
    return module.runs[-1][1]

  module.init = init
  module.Error = type("Error", (Exception,), {})
  module.Audio = lambda data, sample_rate: (data.shape, sample_rate)
  monkeypatch.setitem(sys.modules, "wandb", module)
  return module


def test_a_run_logs_everything_against_the_training_step(wandb, tmp_path):
  loop.train(
    **toy_system.settings(tmp_path, total_steps=4), tracker=WeightsAndBiases("songs", mode="offline")
  )
  ((settings, run),) = wandb.runs
  assert (settings["project"], settings["mode"], settings["name"]) == ("songs", "offline", tmp_path.name)
  assert settings["config"]["system"] == "toy" and settings["dir"] == str(tmp_path)
  assert run.axes == {"step": None, "train/*": "step", "eval/*": "step"}
  train = [line for line in run.lines if "train/loss" in line]
  written = [json.loads(line) for line in (tmp_path / "metrics/train.jsonl").read_text().splitlines()]
  assert [(line["step"], line["train/loss"]) for line in train] == [
    (row["step"], row["loss"]) for row in written
  ]
  assert [line["step"] for line in run.lines if "eval/loss" in line] == [4]
  assert run.finished


def test_a_continued_training_continues_its_run(wandb, tmp_path):
  for total_steps in (4, 8):
    loop.train(**toy_system.settings(tmp_path, total_steps=total_steps), tracker=WeightsAndBiases())
  first, second = (settings for settings, _ in wandb.runs)
  assert first["id"] == second["id"] and second["resume"] == "allow"


def test_audio(wandb, tmp_path):
  tracker = WeightsAndBiases()
  tracker.start(tmp_path, {})
  tracker.log_audios("eval", 7, {"generated": np.zeros((2, 5, 1))}, sample_rate=16_000)
  assert wandb.runs[0][1].lines == [{"step": 7, "eval/generated": [((5, 1), 16_000)] * 2}]


def test_without_the_package_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(InputError, match=r"pip install 'singsong_jax\[wandb\]'"):
    WeightsAndBiases()


def test_what_cannot_start_says_how_to_do_without_a_network(wandb, tmp_path):
  def fail(**settings):
    raise wandb.Error("no API key")

  wandb.init = fail
  with pytest.raises(InputError, match=r"cannot start: no API key; WeightsAndBiases.mode='offline'"):
    WeightsAndBiases().start(tmp_path, {})
  with pytest.raises(InputError, match="mode='ofline': choose one of online"):
    WeightsAndBiases(mode="ofline")
