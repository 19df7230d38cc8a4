"""Devices of machines that are not here, to compile for: TPU slices, GPU nodes; and CPU devices to try it on.

    v4:2x2x2  v5e:16x16  v5p:4x4x4  v6e:8x8     TPU slices, chips along each side of the torus
    h200:8  h100:64  a100:16                    GPUs, eight to a node
    cpu:8                                       so many devices made of this machine's CPU

Nothing runs on such devices. TPUs need libtpu (the extra `tpu`), GPUs jax's CUDA plugin; no driver is needed.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from singsong_jax.errors import InputError
from singsong_jax.training.accelerators import ACCELERATORS, Accelerator

_TPU_SIDES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}  # dimensions of the torus
# What XLA reads of a GPU when there is none, for Hopper: CUDA's device properties of the SXM form.
_HOPPER = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  core_count: 132 fpus_per_core: 128 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  cuda_compute_capability { major: 9 } memory_bandwidth: %d device_memory_size: %d }
platform_name: "CUDA" runtime_version { major: 13 } dnn_version_info { major: 9 minor: 12 }
device_description_str: "%s"
"""
_GPU_TARGETS = {"h100": _HOPPER, "h200": _HOPPER}
KNOWN = (
  *(f"{family}:{'x'.join('4' * sides)}" for family, sides in _TPU_SIDES.items()),
  "h100:8",
  "h200:8",
  "cpu:8",
)


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices to compile for.

  Attributes:
    name: as it was asked for.
    devices: jax's descriptions of them.
    accelerator: data sheet of one; None for CPUs.
    nodes: for each device, which set of fast links it is on: a slice of TPUs, a node of GPUs.
  """

  name: str
  devices: Sequence[jax.Device]
  accelerator: Accelerator | None
  nodes: dict[jax.Device, int]


def find(name: str, num_slices: int = 1) -> Topology:
  """The topology called `name`; call it before anything else makes jax look for devices.

  Args:
    name: see the top of this file.
    num_slices: TPU slices of that shape, joined by a network.

  Raises:
    InputError: an unknown name or shape; a package that compiles for it is missing.
  """
  family, _, shape = name.partition(":")
  if num_slices < 1 or (num_slices > 1 and family not in _TPU_SIDES):
    raise InputError(f"num_slices={num_slices}: TPUs have slices, one or more; {name} is none")
  if family in _TPU_SIDES and re.fullmatch(r"\d+" + r"x\d+" * (_TPU_SIDES[family] - 1), shape):
    devices = _tpus(name, num_slices)
  elif family in _GPU_TARGETS and re.fullmatch(r"[1-9]\d*", shape):
    devices = _gpus(name, family, int(shape))
  elif family == "cpu" and re.fullmatch(r"[1-9]\d*", shape):
    devices = _cpus(name, int(shape))
  else:
    raise InputError(f"topology {name!r} is not known; they are written {', '.join(KNOWN)} and so on")
  accelerator = next((a for a in ACCELERATORS if a.name == family), None)
  node_size = accelerator.node_size if accelerator else None
  nodes = {d: d.id // node_size if node_size else getattr(d, "slice_index", 0) or 0 for d in devices}
  return Topology(name, devices, accelerator, nodes)


def _tpus(name: str, num_slices: int) -> Sequence[jax.Device]:
  _require("libtpu", name, "pip install 'libtpu' in the version of jax[tpu], or the extra `tpu`")
  # libtpu would otherwise ask a cloud's metadata server, and complain at length that there is none.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault(
    "ALLOW_MULTIPLE_LIBTPU_LOAD", "1"
  )  # only programs that use the TPU exclude each other
  options: dict[str, Any] = (
    {"chip_config_name": "megacore"} if name.startswith("v4") else {}
  )  # two cores are one device
  if num_slices > 1:
    options["num_slices"] = num_slices
  return _describe(name, "tpu", name, options)


def _gpus(name: str, family: str, count: int) -> Sequence[jax.Device]:
  _require("jax_plugins.xla_cuda13", name, "pip install --no-deps jax-cuda13-plugin jax-cuda13-pjrt")
  os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # no driver, no libraries: none are needed
  accelerator = next(a for a in ACCELERATORS if a.name == family)
  per_node = min(count, accelerator.node_size or count)
  if count % per_node:
    raise InputError(f"{name}: several nodes have {per_node} GPUs each; {count} is not a multiple of it")
  target = _GPU_TARGETS[family] % (
    accelerator.memory_bandwidth,
    accelerator.memory_bytes,
    accelerator.device_kinds[0],
  )
  shape = f"1x{count // per_node}x{per_node}"
  return _describe(name, "cuda", family, {"target_config": target, "topology": shape})


def _cpus(name: str, count: int) -> Sequence[jax.Device]:
  try:
    jax.config.update("jax_num_cpu_devices", count)
  except RuntimeError:  # jax has looked for its devices already
    pass
  if len(jax.devices("cpu")) < count:
    raise InputError(f"{name}: jax has {len(jax.devices('cpu'))} CPU devices and was started before")
  return jax.devices("cpu")[:count]


def _describe(name: str, platform: str, topology: str, options: dict[str, Any]) -> Sequence[jax.Device]:
  try:
    return topologies.get_topology_desc(topology, platform, **options).devices
  except Exception as error:  # plugins raise whatever they like
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise InputError(f"the compiler does not know the topology {name}: {reason}") from error


def _require(module: str, name: str, remedy: str) -> None:
  try:
    found = importlib.util.find_spec(module)
  except ModuleNotFoundError:
    found = None
  if found is None:
    raise InputError(f"to compile for {name}, the package {module} is needed and missing: {remedy}")
