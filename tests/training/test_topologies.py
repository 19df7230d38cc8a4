"""Names of machines, and what is said of those that cannot be had."""

import importlib.util

import jax
import pytest

from singsong_jax.errors import InputError
from singsong_jax.training import topologies


@pytest.mark.parametrize(
  "name", ["v5:4x4", "v5e", "v5e:16", "v4:4x4", "v5e:4x4x4", "h200:0", "h200:8x8", "gpu:8", ""]
)
def test_unknown_names_list_the_known(name):
  with pytest.raises(InputError, match=r"not known; they are written v4:4x4x4, v5e:4x4, .*h200:8, cpu:8"):
    topologies.find(name)


@pytest.mark.parametrize("name,slices", [("cpu:1", 2), ("h200:8", 2), ("v5e:4x4", 0)])
def test_only_tpus_have_slices(name, slices):
  with pytest.raises(InputError, match=f"num_slices={slices}"):
    topologies.find(name, slices)


@pytest.mark.parametrize("name,package,extra", [
  ("v5e:4x4", "libtpu", "extra `tpu`"),
  ("h200:8", "jax_plugins.xla_cuda13", "pip install --no-deps jax-cuda13-plugin"),
])  # fmt: skip
def test_a_missing_compiler_says_what_to_install(monkeypatch, name, package, extra):
  monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
  with pytest.raises(InputError, match=f"the package {package} is needed and missing: .*{extra}"):
    topologies.find(name)


def test_gpus_come_in_nodes_of_eight(monkeypatch):
  monkeypatch.setattr(topologies, "_require", lambda *_: None)
  with pytest.raises(InputError, match="12 is not a multiple"):
    topologies.find("h200:12")


def test_cpu_devices():
  topology = topologies.find("cpu:1")
  assert list(topology.devices) == jax.devices()[:1] and topology.accelerator is None
  with pytest.raises(InputError, match="was started before"):
    topologies.find("cpu:64")
