"""The real model gives the same losses whatever the mesh, the microbatches and the way it is computed."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training.optimizers import Optimizer, adafactor
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def report():
  command = [sys.executable, str(HERE / "singsong_on_devices.py")]
  environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
  result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(result.stdout)


@pytest.mark.slow
def test_eight_devices_and_microbatches_change_nothing(report):
  losses = dict(report["losses"])
  one = losses.pop("one device")
  assert one[3] < one[0]
  for setting, found in losses.items():
    np.testing.assert_allclose(found, one, rtol=1e-4, err_msg=setting)


@pytest.mark.slow
def test_fsdp_cuts_the_parameters(report):
  """To an eighth each, all but what has no axis that eight devices divide."""
  assert 1 / 8 <= report["share"] < 0.13


@pytest.mark.slow
def test_meshes_that_do_not_fit_are_refused_with_those_that_do(report):
  assert report["heads"] == (
    "the network's 'heads' axis has 4 parts, which num_partitions=8 does not divide; choose one of 1, 2, 4"
  )
  assert report["devices"] == "num_partitions=3 × fsdp=1 does not divide the 8 devices there are"


def state_of(rules=(), optimizer=None):
  partitioner = Partitioner(additional_axis_rules=rules, devices=jax.devices()[:1])
  steps = Steps(toy_system.ToySystem(), optimizer or adafactor(), partitioner, seed=0, num_microbatches=1)
  return steps.abstract_state


@pytest.mark.parametrize(
  "rule, message",
  [
    (("embed", "tensor"), "'embed' goes to 'tensor'; the mesh axes are data, fsdp, model"),
    (("embde", "fsdp"), "names 'embde', which no array has; did you mean embed"),
    (("embed",), "is not a pair"),
  ],
)
def test_an_unknown_axis_rule_is_refused(rule, message):
  with pytest.raises(InputError, match=message):
    state_of([rule])


def test_an_axis_rule_comes_before_the_default_one():
  state = state_of([("embed", ("data", "fsdp"))])
  assert state.params["head"].sharding.spec[0] == ("data", "fsdp")


def specs(tree):
  """Parameter and field of each array of an optimizer's state → its spec, of those that are cut."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  names = {jax.tree_util.keystr(path, simple=True, separator="/"): x.sharding.spec for path, x in leaves}
  return {"/".join(name.split("/")[-2:]): tuple(spec) for name, spec in names.items() if any(spec)}


def test_what_the_optimizer_keeps_lies_as_its_parameter():
  adam = Optimizer(optax.adam(1e-3), optax.constant_schedule(1e-3), {})
  head, embedding = ("fsdp", "model"), ("model", "fsdp")
  assert specs(state_of(optimizer=adam).opt_state) == {
    "mu/head": head,
    "nu/head": head,
    "mu/embedding": embedding,
    "nu/embedding": embedding,
  }
  factored = specs(state_of(optimizer=adafactor(min_dim_size_to_factor=2)).opt_state)
  assert factored == {  # [8, 20] and [10, 8]: rows are means over the longer dimension
    "v_row/head": ("fsdp",),
    "v_col/head": ("model",),
    "v_row/embedding": ("fsdp",),
    "v_col/embedding": ("model",),
  }
