"""How fast a run is, what it waits for, what memory it takes; and a profile of a few of its steps."""

import contextlib
import pathlib
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import gin
import jax

from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import accelerators

# What a clock or a memory says: never the same twice, unlike every other scalar of a run.
MEASURED = frozenset(
  {
    "steps_per_second",
    "examples_per_second",
    "tokens_per_second",
    "mfu",
    "input_wait_share",
    "device_memory_bytes",
    "device_memory_peak_bytes",
    "host_memory_peak_bytes",
  }
)


class Monitor:
  """Measures the steps between two records, without what happens between them (evaluation, checkpoints).

  Time counts from `resume` to `pause`; the first step, which is mostly compilation, comes before the first
  `resume`.

  Args:
    system: whose training step it is.
  """

  def __init__(self, system: System):
    self._system = system
    self._peak_flops = _peak_flops()
    self._seconds = self._waited = 0.0
    self._steps = 0
    self._resumed_at: float | None = None

  def resume(self) -> None:
    if self._resumed_at is None:
      self._resumed_at = time.perf_counter()

  def pause(self) -> None:
    if self._resumed_at is not None:
      self._seconds += time.perf_counter() - self._resumed_at
      self._resumed_at = None

  def lap(self) -> None:
    """Counts a step, if the clock was running since before it."""
    if self._resumed_at is not None:
      self._steps += 1

  @contextlib.contextmanager
  def waiting(self, computing: Any = None) -> Iterator[None]:
    """Around `next(data)`: its time counts as waiting, unless the devices had work all the while.

    Args:
      computing: arrays of the step that may still be computing.
    """
    started = time.perf_counter()
    yield
    busy = any(not array.is_ready() for array in jax.tree.leaves(computing))
    if self._resumed_at is not None and not busy:
      self._waited += time.perf_counter() - started

  def take(self, num_rows: int, tokens_per_step: float) -> dict[str, float]:
    """Scalars of the steps since the last call, those of `MEASURED` that can be had here. Starts anew.

    Args:
      num_rows: examples in a batch, of all processes together.
      tokens_per_step: mean number of target tokens in a batch.
    """
    scalars = _memory()
    if self._steps and self._seconds:
      rate = self._steps / self._seconds
      scalars |= {
        "steps_per_second": rate,
        "examples_per_second": rate * num_rows,
        "tokens_per_second": rate * tokens_per_step,
        "input_wait_share": self._waited / self._seconds,
      }
      if self._peak_flops:
        scalars["mfu"] = rate * self._system.training_flops(num_rows) / self._peak_flops
    self._seconds = self._waited = 0.0
    self._steps = 0
    return scalars


def _peak_flops() -> float | None:
  """Operations per second of all devices; None where the device is not one we know the figure of."""
  accelerator = accelerators.find(jax.devices()[0].device_kind)
  return accelerator and accelerator.peak_flops * jax.device_count()


def _memory() -> dict[str, float]:
  """Bytes: of the fullest device of this process where the backend tells, and of the process itself."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
  scalars = {"host_memory_peak_bytes": float(peak)}
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  for scalar, name in (
    ("device_memory_bytes", "bytes_in_use"),
    ("device_memory_peak_bytes", "peak_bytes_in_use"),
  ):
    if all(name in of_device for of_device in stats):
      scalars[scalar] = float(max(of_device[name] for of_device in stats))
  return scalars


@gin.configurable
class Profile:
  """Traces a few steps with jax's profiler, into `<model_dir>/tensorboard`; process 0 only.

  Attributes:
    folder: where TensorBoard finds it.

  Args:
    model_dir: of the run.
    first_step: counted from where this process starts or continues; step 1 is mostly compilation.
    num_steps: traced steps.

  Raises:
    InputError: a count that is not positive.
  """

  def __init__(self, model_dir: pathlib.Path, *, first_step: int = 3, num_steps: int = 3):
    if first_step < 1 or num_steps < 1:
      raise InputError(f"Profile: first_step={first_step} and num_steps={num_steps} must be at least 1")
    self.folder = pathlib.Path(model_dir) / "tensorboard"
    self.num_steps = num_steps
    self._first, self._last = first_step, first_step + num_steps - 1
    self._step = 0
    self._tracing = False

  def before_step(self) -> None:
    self._step += 1
    if self._step == self._first and jax.process_index() == 0:
      jax.profiler.start_trace(str(self.folder))
      self._tracing = True

  @property
  def ends_with_this_step(self) -> bool:
    return self._tracing and self._step == self._last

  def end(self, results: Any) -> None:
    """Ends the trace when the last step's `results` are computed."""
    jax.block_until_ready(results)
    self.close()

  def close(self) -> None:
    """Ends a trace if there is one: a run may stop in the middle of it."""
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()
