"""Compiles the training step for machines that are not here, and says what it would take there.

  python -m singsong_jax.precompile --topology=v5e:16x16 --gin_file=gin/system/singsong.gin … --gin.FSDP=16

The gin files and bindings are those of `singsong_jax.train`; nothing is read, run or written (docs/scale.md).
"""

import dataclasses
import importlib.metadata
import json
import re
import time
from collections.abc import Sequence
from typing import Any

import gin
import jax
from absl import flags
from jax.stages import Compiled

from singsong_jax import cli
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import collectives as collectives_lib
from singsong_jax.training import roofline, topologies
from singsong_jax.training.collectives import Collective
from singsong_jax.training.optimizers import Optimizer
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.state import count_parameters
from singsong_jax.training.step import Steps
from singsong_jax.training.topologies import Topology

GIB = 2**30
PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin")

_TOPOLOGY = flags.DEFINE_string("topology", None, f"what to compile for: {', '.join(topologies.KNOWN)} …")
_NUM_SLICES = flags.DEFINE_integer("num_slices", 1, "TPU slices of that shape, joined by a network")
_EFFICIENCY = flags.DEFINE_float(
  "efficiency", 0.4, "share of the peak that arithmetic is assumed to reach, for the predicted time"
)
_OPTIONS = flags.DEFINE_multi_string("compiler_option", [], "NAME=VALUE for XLA; may be repeated")
_JSON = flags.DEFINE_bool("json", False, "print one JSON object instead of a table")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `loop.train` is given, as far as its step depends on it."""

  system: System
  optimizer: Optimizer
  batch_size: int
  random_seed: int = 0
  num_partitions: int = 1
  fsdp: int = 1
  additional_axis_rules: Sequence = ()
  num_microbatches: int = 1
  on_nonfinite: str = "stop"


def main(_) -> None:
  if _TOPOLOGY.value is None:
    raise InputError(f"--topology is missing: {', '.join(topologies.KNOWN)} and so on")
  if not 0 < _EFFICIENCY.value <= 1:
    raise InputError(f"--efficiency={_EFFICIENCY.value}: a share of the peak is above 0 and at most 1")
  options = dict(_split_option(option) for option in _OPTIONS.value)
  jax.config.update("jax_platforms", "cpu")  # devices that are here do not matter
  topology = topologies.find(_TOPOLOGY.value, _NUM_SLICES.value)
  report = precompile(bound_settings(), topology, efficiency=_EFFICIENCY.value, compiler_options=options)
  print(json.dumps(report, indent=2) if _JSON.value else describe(report))


def _split_option(option: str) -> tuple[str, str]:
  name, equals, value = option.partition("=")
  if not equals:
    raise InputError(f"--compiler_option={option}: expected NAME=VALUE")
  return name, value


def bound_settings() -> Settings:
  """The arguments of `train` that gin has bound, and the batch size of its data.

  Raises:
    InputError: no system, optimizer or batch size is bound.
  """
  bound = _bindings("train")
  names = {field.name for field in dataclasses.fields(Settings)} & bound.keys()
  given = {name: bound[name] for name in names}
  given |= {name: value for name, value in _bindings("train_iterator").items() if name == "batch_size"}
  for name in ("system", "optimizer", "batch_size"):
    if name not in given:
      raise InputError(
        f"no gin file binds {name}; give those that training takes, gin/trainer/native.gin among them"
      )
  return Settings(**given)


def _bindings(configurable: str) -> dict[str, Any]:
  try:
    return gin.get_bindings(configurable)
  except ValueError:  # nothing imports it
    return {}


def precompile(
  settings: Settings,
  topology: Topology,
  *,
  efficiency: float,
  compiler_options: dict[str, str] | None = None,
) -> dict[str, Any]:
  """Compiles one training step and reports, in JSON values, what `describe` makes a table of.

  Raises:
    InputError: settings that do not fit the mesh; a step that does not fit into a device's memory.
  """
  partitioner = _partitioner(settings, topology)
  started = time.perf_counter()
  compiled = _compile(settings, partitioner, topology, compiler_options or {})
  seconds = time.perf_counter() - started
  memory = _memory(compiled, topology)
  if memory["device"] and memory["total"] > memory["device"]:  # not every compiler refuses
    raise InputError(_too_large(topology.name, memory["total"], memory["device"]))
  devices = list(partitioner.mesh.devices.flat)
  mesh_shape = dict(partitioner.mesh.shape)
  nodes = [topology.nodes[device] for device in devices]
  found = collectives_lib.collectives(compiled.as_text(), mesh_shape, nodes)
  flops = settings.system.training_flops(settings.batch_size)
  params = jax.eval_shape(settings.system.init, jax.random.key(0))
  network = getattr(settings.system, "network", None)  # the protocol does not ask for it
  network = dataclasses.asdict(network) if network else {}
  return {
    "topology": topology.name,
    "device_kind": devices[0].device_kind,
    "num_devices": len(devices),
    "num_nodes": len(set(nodes)),
    "mesh": mesh_shape,
    "batch_size": settings.batch_size,
    "num_microbatches": settings.num_microbatches,
    "network": network,
    "compiler_options": compiler_options or {},
    "parameters": count_parameters(params),
    "memory": memory,
    "flops": {"model": flops, "xla_per_device_loops_once": _xla_flops(compiled)},
    "collectives": [dataclasses.asdict(c) for c in found],
    "prediction": _predict(flops, topology, found, efficiency, network.get("remat")),
    "compile_seconds": seconds,
    "versions": _versions(),
  }


def _partitioner(settings: Settings, topology: Topology) -> Partitioner:
  """Of the topology's devices. Raises InputError for settings that do not fit them, as training does."""
  partitioner = Partitioner(
    settings.num_partitions, settings.fsdp, settings.additional_axis_rules, devices=topology.devices
  )
  if settings.num_microbatches < 1:
    raise InputError(f"num_microbatches={settings.num_microbatches}: a whole number of at least 1 is needed")
  partitioner.check_axes(settings.system.axis_sizes)
  partitioner.check_batch_size(settings.batch_size, settings.num_microbatches)
  return partitioner


def _compile(
  settings: Settings, partitioner: Partitioner, topology: Topology, compiler_options: dict[str, str]
) -> Compiled:
  steps = Steps(
    settings.system,
    settings.optimizer,
    partitioner,
    seed=settings.random_seed,
    num_microbatches=settings.num_microbatches,
    skip_nonfinite=settings.on_nonfinite == "skip",
  )
  shapes = settings.system.batch_shapes(settings.batch_size)
  batch = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.by_rows) for name, x in shapes.items()
  }
  try:
    lowered = steps.train.lower(steps.abstract_state, batch)
    return lowered.compile(compiler_options=compiler_options or None)
  except jax.errors.JaxRuntimeError as error:
    raise InputError(explain_compiler_error(str(error), topology.name)) from error
  except RuntimeError as error:
    if "cuDNN" not in str(error):
      raise
    raise InputError(
      f"attention='cudnn' cannot be compiled for {topology.name} without a GPU ({error}); take "
      "--gin.ATTENTION=xla, which needs more memory"
    ) from error


def explain_compiler_error(message: str, topology: str) -> str:
  """One line: what was out of memory, by how much and what to change; else the compiler's own first line."""
  text = " ".join(message.split())
  if "RESOURCE_EXHAUSTED" not in text:
    return f"the step does not compile for {topology}: {text[:400]}"
  sizes = re.search(r"required for HLO temporaries \(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\)", text)
  sizes = sizes or re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", text)
  return _too_large(topology, *map(_bytes, sizes.groups() if sizes else ()))


def _too_large(topology: str, needed: float | None = None, available: float | None = None) -> str:
  excess = ""
  if needed and available:
    excess = f": {_gib(needed)} are needed of {_gib(available)}, {_gib(needed - available)} too much"
  return (
    f"the step does not fit a device of {topology}{excess}; more --gin.NUM_MICROBATCHES or --gin.REMAT=full "
    "lessen activations, more --gin.FSDP parameters and their gradients"
  )


def _bytes(size: str) -> float:
  """Of XLA's '22.82G'."""
  return float(size[:-1]) * {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[size[-1]]


def _memory(compiled: Compiled, topology: Topology) -> dict[str, int | None]:
  """Of one device, in bytes; arrays that are updated in place count once."""
  plan = compiled.memory_analysis()
  parts = {
    "arguments": plan.argument_size_in_bytes,
    "outputs": plan.output_size_in_bytes,
    "aliased": plan.alias_size_in_bytes,
    "temporaries": plan.temp_size_in_bytes,
    "code": plan.generated_code_size_in_bytes,
  }
  total = sum(parts.values()) - 2 * parts["aliased"]
  return parts | {"total": total, "device": topology.accelerator and topology.accelerator.memory_bytes}


def _xla_flops(compiled: Compiled) -> float | None:
  analysis = compiled.cost_analysis()
  return analysis.get("flops") if analysis else None


def _predict(
  flops: float, topology: Topology, found: list[Collective], efficiency: float, remat: str | None
) -> dict[str, float] | None:
  if topology.accelerator is None:
    return None
  prediction = roofline.predict(
    flops,
    len(topology.devices),
    topology.accelerator,
    found,
    efficiency=efficiency,
    recomputation=roofline.RECOMPUTATION.get(remat or "none", 1.0),
  )
  return prediction and {"efficiency": efficiency, **dataclasses.asdict(prediction)}


def _versions() -> dict[str, str]:
  versions = {}
  for package in PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions


def describe(report: dict[str, Any]) -> str:
  """The report as text for people."""
  mesh = " × ".join(f"{size} {name}" for name, size in report["mesh"].items())
  memory, flops, prediction = report["memory"], report["flops"], report["prediction"]
  lines = [
    f"{report['topology']}: {report['num_devices']} × {report['device_kind']}, mesh {mesh}",
    f"{report['parameters']:,} parameters; batch {report['batch_size']}, microbatches "
    f"{report['num_microbatches']}; compiled in {report['compile_seconds']:.0f} s",
    "",
    "memory of a device",
    *(
      f"  {name:<12}{_gib(memory[name]):>12}"
      for name in ("arguments", "outputs", "aliased", "temporaries", "code")
    ),
    f"  {'total':<12}{_gib(memory['total']):>12}"
    + (f" of {_gib(memory['device'])}" if memory["device"] else ""),
    "",
    "operations of a step",
    f"  the model's own, by arithmetic   {flops['model'] / 1e12:,.1f} TFLOP",
  ]
  if flops["xla_per_device_loops_once"] is not None:
    lines.append(
      f"  XLA's count for a device         {flops['xla_per_device_loops_once'] / 1e12:,.3f} TFLOP (loops and "
      "kernels not counted as often as they run)"
    )
  lines += ["", "collectives of a step            number        arrays   sent by a device"]
  for c in report["collectives"]:
    name = f"{c['kind']} over {' × '.join(c['axes']) or '?'}"
    lines.append(f"  {name:<28}{c['count']:>9}{_gib(c['array_bytes']):>14}{_gib(c['sent_bytes']):>19}")
  return "\n".join([*lines, "", *_describe_prediction(prediction)])


def _describe_prediction(prediction: dict[str, float] | None) -> list[str]:
  if prediction is None:
    return ["no prediction: the data sheets do not say what it needs"]
  return [
    f"predicted: {prediction['least_seconds']:.3f} s if communication is hidden behind arithmetic, "
    f"{prediction['most_seconds']:.3f} s if none is",
    f"  arithmetic     {prediction['compute_seconds']:.3f} s at {prediction['efficiency']:.0%} of the peak, "
    "which is assumed",
    f"  communication  {prediction['collective_seconds']:.3f} s by rings at the links' full bandwidth",
    "  not modelled: memory traffic, latencies, input, the host",
  ]


def _gib(size: float) -> str:
  return f"{size / GIB:,.3f} GiB" if size >= GIB / 100 else f"{size / 2**20:,.3f} MiB"


if __name__ == "__main__":
  cli.run(main, uses_gin=True)
