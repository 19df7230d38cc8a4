import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import toy_system
from test_loop import history

from singsong_jax.errors import InputError
from singsong_jax.training import fine_tuning, loop, optimizers
from singsong_jax.training.checkpoints import load_checkpoint
from singsong_jax.training.fine_tuning import InitialCheckpoint
from singsong_jax.training.optimizers import constant_rate, freeze
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps


@dataclasses.dataclass(frozen=True)
class Tunable(toy_system.ToySystem):
  """With a setting that neither shapes nor ids depend on."""

  vocals: str = "clean"


def run(model_dir, **changes):
  loop.train(**toy_system.settings(model_dir, **({"system": Tunable(), "eval_dataset": None} | changes)))


def params(model_dir, step=None):
  return load_checkpoint(model_dir, step, lambda description: Tunable(width=description["width"]))[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("trained")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("singsong_jax.training.metrics._tensorboard_writer", lambda folder: None)
    run(folder, total_steps=8)
  return folder


def frozen(rate=0.05):
  return freeze(["embedding"], optimizers.adafactor(constant_rate(rate)))


def test_it_begins_with_the_parameters_and_nothing_else(trained, tmp_path, capsys):
  run(tmp_path, initial=InitialCheckpoint(trained, step=4), system=Tunable(vocals="noisy"), total_steps=2)
  assert f"starting from the parameters of {trained}, step 4" in capsys.readouterr().err
  first = history(tmp_path)[0]
  assert first["step"] == 1 and first["learning_rate"] == pytest.approx(0.1)
  expected = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(params(trained, 4))))
  assert first["parameter_norm"] == pytest.approx(float(expected), rel=1e-5)  # of before the step


def test_frozen_parameters_stay_and_the_schedule_is_the_new_one(trained, tmp_path):
  run(tmp_path, initial=InitialCheckpoint(trained), optimizer=frozen(), total_steps=4)
  before, after = params(trained), params(tmp_path)
  np.testing.assert_array_equal(before["embedding"], after["embedding"])
  assert (before["head"] != after["head"]).any()
  assert {row["learning_rate"] for row in history(tmp_path)} == {0.05}


def test_continuing_a_fine_tuning_is_exact_and_does_not_begin_again(trained, tmp_path):
  settings = {"initial": InitialCheckpoint(trained), "optimizer": frozen()}
  run(tmp_path / "whole", **settings)
  run(tmp_path / "parts", **settings, total_steps=5)
  run(tmp_path / "parts", **settings | {"initial": InitialCheckpoint(tmp_path / "gone")})
  assert history(tmp_path / "parts") == history(tmp_path / "whole")
  jax.tree.map(np.testing.assert_array_equal, params(tmp_path / "parts"), params(tmp_path / "whole"))


def test_freezing_something_else_later_is_refused(trained, tmp_path):
  run(tmp_path, initial=InitialCheckpoint(trained), optimizer=frozen(), total_steps=1)
  rates = optimizers.adafactor(constant_rate(0.05))
  with pytest.raises(InputError, match=r"frozen was \['embedding'\], now None"):
    run(tmp_path, optimizer=rates)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"system": Tunable(width=6)}, r"width was 8, now 6\. Sizes, vocabulary and features must be .* vocals"),
    ({"initial": 9}, r"has no checkpoint of step 9; it has 4, 8"),
    ({"initial": "nowhere"}, "nowhere is not a model directory"),
  ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(trained, tmp_path, settings, message):
  initial = InitialCheckpoint(trained)
  if isinstance(settings.get("initial"), int):
    initial = InitialCheckpoint(trained, step=settings["initial"])
  elif "initial" in settings:
    initial = InitialCheckpoint(tmp_path / settings["initial"])
  with pytest.raises(InputError, match=message):
    run(tmp_path / "tuned", **settings | {"initial": initial})
  assert not (tmp_path / "tuned").exists()


def test_another_vocabulary_and_other_features_are_named_with_both_values(trained, tmp_path):
  description = json.loads((trained / "model.json").read_text())
  copy = tmp_path / "copy"
  (copy / "checkpoints/8").mkdir(parents=True)
  (copy / "model.json").write_text(
    json.dumps(description | {"features": "sa_sa", "vocabulary": {"size": 5122}})
  )
  with pytest.raises(InputError, match=r"features was 'sa_sa', now None; vocabulary.size was 5122, now None"):
    InitialCheckpoint(copy).check(Tunable())
  assert "step 8" in InitialCheckpoint(copy, may_differ=("features", "vocabulary.size")).check(Tunable())


def main(folder):
  """In a process with 8 devices: the parameters arrive where the mesh wants them."""
  partitioner = Partitioner(num_partitions=2, fsdp=2)
  steps = Steps(Tunable(), frozen(), partitioner, seed=0, num_microbatches=1, skip_nonfinite=False)
  state = steps.init()
  wanted = [leaf.sharding for leaf in jax.tree.leaves(state.params)]
  restored = fine_tuning.InitialCheckpoint(folder)(state).params
  assert [leaf.sharding for leaf in jax.tree.leaves(restored)] == wanted
  assert not all(sharding.is_fully_replicated for sharding in wanted)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), params(folder))


@pytest.mark.slow
def test_parameters_arrive_on_any_mesh(trained):
  root = pathlib.Path(__file__).parent.parent.parent
  environment = {
    **os.environ,
    "PYTHONPATH": f"{root}:{pathlib.Path(__file__).parent}",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
  }
  subprocess.run([sys.executable, __file__, str(trained)], env=environment, check=True)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
