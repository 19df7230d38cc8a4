"""Compiling for machines that are not here: the report, its table, and the errors."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import gin
import pytest

from singsong_jax import precompile
from singsong_jax.errors import InputError

HERE = pathlib.Path(__file__).parent
# Eight CPU devices, or a TPU slice: jax must not have been started, so each is a process of its own.
PROGRAM = """
import dataclasses, json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from toy_system import ToySystem
from singsong_jax import precompile
from singsong_jax.errors import InputError
from singsong_jax.training import accelerators, optimizers, topologies

name, *cases = sys.argv[1:]
topology = topologies.find(name)
for case in map(json.loads, cases):
  if memory := case.pop("memory", None):
    chip = dataclasses.replace(accelerators.ACCELERATORS[0], memory_bytes=memory)
    topology = dataclasses.replace(topology, accelerator=chip)
  settings = precompile.Settings(ToySystem(), optimizers.adafactor(), **case)
  try:
    print(json.dumps(precompile.precompile(settings, topology, efficiency=0.5)))
  except InputError as error:
    print(json.dumps({"error": str(error)}))
"""


def compile_toy(topology, *cases):
  """A report for each case, or {"error": …}."""
  finished = subprocess.run(
    [sys.executable, "-c", PROGRAM, topology, *map(json.dumps, cases)],
    env={**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE / 'training'}:{os.environ.get('PYTHONPATH', '')}"},
    capture_output=True,
    text=True,
  )
  assert not finished.returncode, finished.stderr
  return [json.loads(line) for line in finished.stdout.splitlines()]


def test_on_eight_cpu_devices():
  data, fsdp, rows, heads, parts, large = compile_toy(
    "cpu:8",
    {"batch_size": 32, "num_microbatches": 2},
    {"batch_size": 16, "fsdp": 4},
    {"batch_size": 20},
    {"batch_size": 16, "num_partitions": 8},
    {"batch_size": 16, "num_microbatches": 0},
    {"batch_size": 16, "memory": 1000},
  )
  parameters = 10 * 8 + 8 * 20
  assert data["mesh"] == {"data": 8, "fsdp": 1, "model": 1} and data["parameters"] == parameters
  assert {tuple(c["axes"]) for c in data["collectives"]} == {("data",)}
  # Gradients of both microbatches, and little besides.
  reduced = sum(c["array_bytes"] for c in data["collectives"] if c["kind"] == "all-reduce")
  assert 4 * parameters <= reduced <= 3 * 4 * parameters
  assert data["flops"]["model"] == 3 * 2 * 32 * 6 * 8 * 20
  memory = data["memory"]
  total = memory["arguments"] + memory["outputs"] - memory["aliased"] + memory["temporaries"] + memory["code"]
  assert memory["total"] == total > 4 * parameters and memory["device"] is None
  assert data["prediction"] is None  # no data sheet

  gathered = [c for c in fsdp["collectives"] if c["kind"] == "all-gather" and c["axes"] == ["fsdp"]]
  assert sum(c["count"] for c in gathered) >= 1
  assert fsdp["memory"]["arguments"] < memory["arguments"]

  assert "batch size 20 does not divide" in rows["error"]
  assert "'mlp' axis has 20 parts, which num_partitions=8 does not divide" in heads["error"]
  assert "num_microbatches=0" in parts["error"]
  assert "does not fit a device of cpu:8" in large["error"] and "are needed of 0.001 MiB" in large["error"]
  assert "no prediction" in precompile.describe(data)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (extra tpu)")
def test_for_a_tpu_slice():
  (report,) = compile_toy("v5e:2x2", {"batch_size": 16, "fsdp": 2})
  assert report["num_devices"] == 4 and report["device_kind"] == "TPU v5 lite"
  assert report["memory"]["device"] == 16 * 2**30
  assert report["collectives"] and all(c["axes"] for c in report["collectives"])
  seconds = report["flops"]["model"] / (4 * 197e12 * 0.5)
  assert report["prediction"]["compute_seconds"] == pytest.approx(seconds)
  assert "of 16.000 GiB" in precompile.describe(report)


HBM = (
  "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
  "temporaries (22.82G) exceeds available HBM (15.75G). HLO module: jit_train_step."
)
USED = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 512.00M of 256.00M hbm. Exceeded"


@pytest.mark.parametrize("message,explained", [
  (HBM, "a device of v5e:4x4: 22.820 GiB are needed of 15.750 GiB, 7.070 GiB too much; more --gin.NUM_MICRO"),
  (USED, "0.500 GiB are needed of 0.250 GiB, 0.250 GiB too much"),
  ("RESOURCE_EXHAUSTED: something new", "does not fit a device of v5e:4x4; more"),
  ("INTERNAL: a bug\nand its details", "does not compile for v5e:4x4: INTERNAL: a bug and its details"),
])  # fmt: skip
def test_the_compilers_errors_in_one_line(message, explained):
  text = precompile.explain_compiler_error(message, "v5e:4x4")
  assert explained in text and "\n" not in text


@pytest.fixture
def _no_bindings():
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.mark.usefixtures("_no_bindings")
def test_settings_are_those_of_train(monkeypatch):
  bound = {
    "train": {"system": "system", "optimizer": "optimizer", "fsdp": 4, "total_steps": 9},
    "train_iterator": {"batch_size": 8},
  }
  monkeypatch.setattr(gin, "get_bindings", lambda name: bound[name])
  assert precompile.bound_settings() == precompile.Settings("system", "optimizer", 8, fsdp=4)
  bound["train_iterator"] = {}
  with pytest.raises(InputError, match="no gin file binds batch_size"):
    precompile.bound_settings()


@pytest.mark.parametrize("arguments,message", [
  ([], "--topology is missing: v4:4x4x4"),
  (["--topology=cpu:2"], "no gin file binds system"),
  (["--topology=cpu:2", "--efficiency=40"], "--efficiency=40.0: a share"),
  (["--topology=cpu:2", "--compiler_option=x"], "--compiler_option=x: expected NAME=VALUE"),
])  # fmt: skip
def test_the_command_line(arguments, message):
  finished = subprocess.run(
    [sys.executable, "-m", "singsong_jax.precompile", *arguments],
    cwd=HERE.parent,
    capture_output=True,
    text=True,
  )
  assert finished.returncode == 2
  assert finished.stderr.startswith(f"error: {message}") and finished.stderr.count("\n") == 1
