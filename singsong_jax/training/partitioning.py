"""Where arrays live: a ('data', 'fsdp', 'model') mesh, and t5x's rules from logical axes to it.

    data    copies of the model, each on its rows of the batch (over slices of a pod, if there are several)
    fsdp    rows of the batch too; parameters and optimizer are cut along 'embed', and gathered layer by layer
    model   tensor parallelism: heads, MLP and vocabulary are cut, rows are shared

A process supplies the rows of its own devices and nothing else is moved between hosts.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from singsong_jax.errors import InputError, did_you_mean
from singsong_jax.systems.base import System
from singsong_jax.training.data import Batch
from singsong_jax.training.state import TrainState

MESH_AXES = ("data", "fsdp", "model")
AxisRule = tuple[str, str | tuple[str, ...] | None]

# t5x.partitioning.standard_logical_axis_rules with 1-D activations and 2-D parameters.
LOGICAL_AXIS_RULES: tuple[AxisRule, ...] = (
  ("batch", ("data", "fsdp")),
  ("vocab", "model"),
  ("mlp", "model"),
  ("heads", "model"),
  ("joined_kv", "model"),
  ("embed", "fsdp"),
  ("kv", None),
  ("relpos_buckets", None),
  ("length", None),
  ("layers", None),
)
# What a mesh axis is asked for by.
_SETTINGS = {"fsdp": "fsdp", "model": "num_partitions"}


class Partitioner:
  """Shards state and batches over all devices of all processes.

  Args:
    num_partitions: devices that share the rows of one copy of the model (t5x's name).
    fsdp: devices a copy's parameters and optimizer are spread over besides. What is left of the devices
      is data parallelism.
    additional_axis_rules: `(logical axis, mesh axis | mesh axes | None)`, which come before
      `LOGICAL_AXIS_RULES` and so win.
    devices: those of a topology to compile for; the ones there are by default.

  Raises:
    InputError: sizes that do not divide the number of devices; a rule with an unknown mesh axis.
  """

  def __init__(
    self,
    num_partitions: int = 1,
    fsdp: int = 1,
    additional_axis_rules: Sequence[AxisRule] = (),
    devices: Sequence[jax.Device] | None = None,
  ):
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    if num_partitions < 1 or fsdp < 1 or count % (num_partitions * fsdp):
      raise InputError(
        f"num_partitions={num_partitions} × fsdp={fsdp} does not divide the {count} devices there are"
      )
    self.rules = _with_defaults(additional_axis_rules)
    self.mesh = _mesh((count // (num_partitions * fsdp), fsdp, num_partitions), devices)
    self.replicated = NamedSharding(self.mesh, PartitionSpec())
    self.by_rows = NamedSharding(self.mesh, self.row_axes())

  def row_axes(self, *before: None) -> PartitionSpec:
    """Of an array whose batch dimension comes after those `before`."""
    return PartitionSpec(*before, ("data", "fsdp"))

  @property
  def data_parallelism(self) -> int:
    """Number of parts the rows of a batch are cut into."""
    return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

  def describe(self) -> str:
    shape = " × ".join(f"{size} {name}" for name, size in self.mesh.shape.items())
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{self.mesh.size} {self.mesh.devices.flat[0].platform} devices{processes}: {shape}"

  @contextlib.contextmanager
  def context(self) -> Iterator[None]:
    """Inside it, and inside `jit`, logical constraints of the networks mean this mesh."""
    with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh), nn.logical_axis_rules(self.rules):
      yield

  def state_sharding(self, system: System, abstract_state: TrainState) -> TrainState:
    """A sharding for every array of the state.

    Matrices go by the rules; vectors are replicated, gathering them would cost more than they take. What
    the optimizer keeps of a parameter lies as the parameter does.

    Raises:
      InputError: a rule for an axis that nothing has; a parameter with an axis that has no rule.
    """
    boxed = jax.eval_shape(system.init, jax.random.key(0))
    specs = nn.get_partition_spec(boxed)
    self._check_rules(specs)
    wanted = nn.logical_to_mesh_sharding(specs, self.mesh, self.rules)
    params = jax.tree.map(self._fitting, abstract_state.params, wanted)
    return TrainState(
      step=self.replicated,
      params=params,
      opt_state=self._of_optimizer(abstract_state.opt_state, abstract_state.params, params),
    )

  def _check_rules(self, specs: Any) -> None:
    is_spec = lambda x: isinstance(x, PartitionSpec)
    used = {name for spec in jax.tree.leaves(specs, is_leaf=is_spec) for name in spec if name}
    known = {name for name, _ in LOGICAL_AXIS_RULES}
    ruled = {name for name, _ in self.rules}
    for name in sorted(ruled - known - used):
      raise InputError(
        f"additional_axis_rules names {name!r}, which no array has"
        f"{did_you_mean(name, known | used) or '; there are ' + ', '.join(sorted(known | used))}"
      )
    for name in sorted(used - ruled):
      raise InputError(
        f"parameters have the logical axis {name!r} without a rule; add ({name!r}, None) to "
        "additional_axis_rules"
      )

  def _fitting(self, array: Any, sharding: NamedSharding) -> NamedSharding:
    """`sharding` without the axes that do not divide: 5122 ids fit 2 partitions, not 4."""
    if len(array.shape) < 2:
      return self.replicated
    fits = [axes if size % self._ways(axes) == 0 else None for size, axes in zip(array.shape, sharding.spec)]
    return NamedSharding(self.mesh, PartitionSpec(*fits))

  def _ways(self, axes: str | tuple[str, ...] | None) -> int:
    names = (axes,) if isinstance(axes, str) else axes or ()
    return int(np.prod([self.mesh.shape[name] for name in names], dtype=int))

  def _of_optimizer(self, opt_state: Any, params: Any, shardings: Any) -> Any:
    """Of a parameter's shape: its sharding. Of a factored moment, one dimension less: what is left of it.

    Both moments of a square matrix lie as its columns do: either way they are vectors.
    """
    leaves = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(shardings))
    of_param = {path: (leaf.shape, sharding.spec) for (path, leaf), sharding in leaves}

    def sharding(path, leaf):
      for start in range(len(path)):  # an optimizer's trees end in the parameters' own paths
        if path[start:] in of_param:
          return NamedSharding(self.mesh, _spec_of_part(leaf.shape, *of_param[path[start:]]))
      return self.replicated

    return jax.tree_util.tree_map_with_path(sharding, opt_state)

  def check_axes(self, sizes: Mapping[str, int]) -> None:
    """Raises InputError for a logical axis whose size the mesh does not divide.

    Args:
      sizes: `System.axis_sizes`.
    """
    axes_of = dict(reversed(self.rules))  # the first rule wins
    for name, size in sizes.items():
      ways = self._ways(axes_of.get(name))
      if size % ways:
        axes = axes_of[name]
        setting = _SETTINGS.get(axes, str(axes)) if isinstance(axes, str) else str(axes)
        raise InputError(
          f"the network's {name!r} axis has {size} parts, which {setting}={ways} does not divide; "
          f"choose one of {', '.join(str(n) for n in range(1, size + 1) if size % n == 0)}"
        )

  def check_batch_size(self, rows: int, num_microbatches: int) -> None:
    """Raises InputError unless every device gets whole rows of every microbatch of a global batch."""
    parts = self.data_parallelism * num_microbatches
    if rows % parts:
      raise InputError(
        f"batch size {rows} does not divide into {num_microbatches} microbatches over "
        f"{self.data_parallelism} data-parallel devices; use a multiple of {parts}"
      )

  @functools.cached_property
  def batch_part(self) -> tuple[int, int]:
    """`(index, count)`: this process supplies the index-th of `count` equal parts of every batch.

    Processes whose devices share rows, as with a 'model' axis across hosts, have the same part.

    Raises:
      InputError: processes whose rows overlap in part.
    """
    rows: dict[int, set[int]] = {}  # process → the places of its devices along the batch
    for device, (places, *_) in self.by_rows.devices_indices_map((self.data_parallelism,)).items():
      rows.setdefault(device.process_index, set()).add(places.start or 0)
    parts = sorted({tuple(sorted(places)) for places in rows.values()})
    if sum(map(len, parts)) != self.data_parallelism or len({len(part) for part in parts}) > 1:
      raise InputError(
        f"the mesh {self.describe()} gives processes rows that overlap in part; let num_partitions divide, "
        "or be a multiple of, the devices of a process"
      )
    return parts.index(tuple(sorted(rows[jax.process_index()]))), len(parts)

  def put_part(self, part: Batch) -> dict[str, jax.Array]:
    """The global batch, out of this process's part of it: rows over 'data' and 'fsdp'."""
    count = self.batch_part[1]

    def put(x: np.ndarray) -> jax.Array:
      shape = (len(x) * count, *x.shape[1:])
      return jax.make_array_from_process_local_data(self.by_rows, x, shape)

    return {name: put(x) for name, x in part.items()}

  def put_batch(self, batch: Batch) -> dict[str, jax.Array]:
    """A batch that every process has as a whole; copies of it where the rows do not divide."""
    sharding = self.replicated if num_rows(batch) % self.data_parallelism else self.by_rows

    def put(x: np.ndarray) -> jax.Array:
      return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return {name: put(np.asarray(x)) for name, x in batch.items()}


def num_rows(batch: Batch) -> int:
  return len(next(iter(batch.values())))


def _mesh(shape: tuple[int, int, int], devices: list[jax.Device]) -> Mesh:
  # Auto: linen's logical constraints need it; jax.make_mesh would make Explicit axes.
  types = (AxisType.Auto,) * len(shape)
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices == 1 or devices[0].platform != "tpu":  # nodes of GPUs are slices too, but follow one another
    return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)
  if shape[0] % slices:  # only gradients may cross the slow network between slices
    raise InputError(f"{slices} slices do not divide the {shape[0]} data-parallel copies; lower fsdp")
  inner = (shape[0] // slices, *shape[1:])
  return Mesh(mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1), devices), MESH_AXES, types)


def _with_defaults(additional: Sequence[AxisRule]) -> tuple[AxisRule, ...]:
  rules = []
  for rule in additional:
    if not isinstance(rule, list | tuple) or len(rule) != 2:
      raise InputError(f"additional_axis_rules: {rule!r} is not a pair (logical axis, mesh axis)")
    name, axes = rule
    axes = tuple(axes) if isinstance(axes, list) else axes
    for axis in (axes,) if isinstance(axes, str) else axes or ():
      if axis not in MESH_AXES:
        raise InputError(
          f"additional_axis_rules: {name!r} goes to {axis!r}; the mesh axes are {', '.join(MESH_AXES)}"
        )
    rules.append((name, axes))
  overruled = {name for name, _ in rules}
  return (*rules, *(rule for rule in LOGICAL_AXIS_RULES if rule[0] not in overruled))


def _spec_of_part(shape: tuple[int, ...], whole: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
  """Of an array that has all dimensions of a parameter, or all but one; nothing for any other."""
  axes = (*spec, *(None,) * (len(whole) - len(spec)))
  if shape == whole:
    return spec
  for gone in range(len(whole)):
    if shape == whole[:gone] + whole[gone + 1 :]:
      return PartitionSpec(*axes[:gone], *axes[gone + 1 :])
  return PartitionSpec()
