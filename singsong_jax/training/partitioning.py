"""Where arrays live: a ('data', 'model') mesh, and t5x's rules from logical axes to it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training.data import Batch
from singsong_jax.training.state import TrainState

# t5x.partitioning.standard_logical_axis_rules with 1-D activations and 1-D parameters.
LOGICAL_AXIS_RULES = (
  ("batch", "data"),
  ("vocab", "model"),
  ("embed", None),
  ("mlp", "model"),
  ("heads", "model"),
  ("kv", None),
  ("joined_kv", "model"),
  ("relpos_buckets", None),
  ("length", None),
  ("layers", None),
)


class Partitioner:
  """Shards state and batches over all devices.

  Args:
    num_partitions: devices one copy of the model is spread over (t5x's name); the rest is data
      parallelism.

  Raises:
    InputError: `num_partitions` does not divide the number of devices.
  """

  def __init__(self, num_partitions: int = 1):
    count = jax.device_count()
    if num_partitions < 1 or count % num_partitions:
      raise InputError(f"num_partitions={num_partitions} does not divide the {count} devices there are")
    # Auto: linen's logical constraints need it; jax.make_mesh would make Explicit axes.
    shape = (count // num_partitions, num_partitions)
    self.mesh = jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
    self.replicated = NamedSharding(self.mesh, PartitionSpec())
    self.by_rows = NamedSharding(self.mesh, PartitionSpec("data"))

  @property
  def data_parallelism(self) -> int:
    return self.mesh.shape["data"]

  def describe(self) -> str:
    parallelism = f"{self.data_parallelism} data-parallel × {self.mesh.shape['model']} model-parallel"
    return f"{jax.device_count()} {jax.devices()[0].platform} devices: {parallelism}"

  @contextlib.contextmanager
  def context(self) -> Iterator[None]:
    """Inside it, and inside `jit`, logical constraints of the networks mean this mesh."""
    with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh), nn.logical_axis_rules(LOGICAL_AXIS_RULES):
      yield

  def state_sharding(self, system: System, abstract_state: TrainState) -> TrainState:
    """A sharding for every array of the state.

    The optimizer's state is replicated: Adafactor's is a thousandth of the parameters.
    """
    boxed = jax.eval_shape(system.init, jax.random.key(0))
    wanted = nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), self.mesh, LOGICAL_AXIS_RULES)
    return TrainState(
      step=self.replicated,
      params=jax.tree.map(self._divisible, abstract_state.params, wanted),
      opt_state=jax.tree.map(lambda _: self.replicated, abstract_state.opt_state),
    )

  def _divisible(self, array: Any, sharding: NamedSharding) -> NamedSharding:
    """`sharding` without the axes that do not divide: 5122 ids fit 2 partitions, not 4."""
    fits = [
      axis if axis is None or size % self.mesh.shape[axis] == 0 else None
      for size, axis in zip(array.shape, sharding.spec)
    ]
    return NamedSharding(self.mesh, PartitionSpec(*fits))

  def check_batch_size(self, batch: Batch, num_microbatches: int) -> None:
    """Raises InputError unless every device gets whole rows of every microbatch."""
    rows = num_rows(batch)
    parts = self.data_parallelism * num_microbatches
    if rows % parts:
      raise InputError(
        f"batch size {rows} does not divide into {num_microbatches} microbatches over "
        f"{self.data_parallelism} data-parallel devices; use a multiple of {parts}"
      )

  def put_batch(self, batch: Batch) -> dict[str, jax.Array]:
    """Moves a batch to the devices, rows over 'data'; copies of it where the rows do not divide."""
    whole = num_rows(batch) % self.data_parallelism
    return jax.device_put(batch, self.replicated if whole else self.by_rows)


def num_rows(batch: Batch) -> int:
  return len(next(iter(batch.values())))
