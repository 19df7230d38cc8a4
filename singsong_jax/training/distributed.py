"""Several processes as one run: how they start, agree, and fail."""

import contextlib
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from singsong_jax.errors import InputError

START_SECONDS = 300  # how long a process waits for the others to start
HEARTBEAT_SECONDS = 100  # after so long without a sign of life from one process the others end
_MESSAGE_BYTES = 1000

# What jaxlib says, in errors of several types, when another process is gone.
_LOST = re.compile(r"gloo|nccl|connection (reset|closed|refused)|coordination|heartbeat|UNAVAILABLE", re.I)


def initialize(
  coordinator_address: str | None = None,
  process_count: int | None = None,
  process_index: int | None = None,
  start_seconds: int = START_SECONDS,
) -> None:
  """Joins the other processes; nothing else may have asked for a device before.

  Args:
    coordinator_address: host:port that process 0 can open and all others reach. It and the other two are
      found out by JAX where they are None: on TPU pods, under SLURM, Open MPI and Kubernetes.
    process_count: number of processes.
    process_index: this one's, `0 … process_count - 1`.
    start_seconds: after this time without all of them the process ends with status 2.

  Raises:
    InputError: arguments that contradict each other or what the other processes were given.
  """
  given = {"process_count": process_count, "process_index": process_index}
  missing = [f"--{name}" for name, value in given.items() if value is None]
  if coordinator_address and missing:
    raise InputError(f"--coordinator_address needs {' and '.join(missing)} too")
  if not coordinator_address and len(missing) < 2:
    raise InputError("--process_count and --process_index need --coordinator_address=HOST:PORT too")
  if process_count is not None and process_index is not None and not 0 <= process_index < process_count:
    raise InputError(
      f"--process_index={process_index} is not one of 0 … {process_count - 1}, as --process_count says"
    )
  if coordinator_address and not re.fullmatch(r".+:\d+", coordinator_address):
    raise InputError(f"--coordinator_address={coordinator_address}: write HOST:PORT")
  if coordinator_address:
    _say(f"process {process_index} of {process_count}: joining {coordinator_address}")
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.config.update("jax_enable_preemption_service", False)  # its SIGTERM handler would replace StopRequest's
  with _ended_after(start_seconds, process_count):
    try:
      jax.distributed.initialize(
        coordinator_address,
        process_count,
        process_index,
        initialization_timeout=start_seconds + 60,  # later than the message
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      )
    except ValueError as error:
      raise InputError(
        f"--multiprocess: {error} Outside TPU pods, SLURM and Open MPI give --coordinator_address, "
        "--process_count and --process_index"
      ) from error
    found = jax.process_count()  # the devices of all processes meet here
  if process_count is not None and found != process_count:
    raise InputError(f"--process_count={process_count} here, and {found} at process 0; give all the same")


@contextlib.contextmanager
def _ended_after(seconds: int, process_count: int | None) -> Iterator[None]:
  """Ends the process with a message if the block takes longer: JAX would print a C++ stack."""

  def end() -> None:
    _say(
      f"error: the {process_count or ''} processes did not all start within {seconds} s: start them all, at "
      "the same --coordinator_address, or change --process_count to the number there are"
    )
    os._exit(2)

  timer = threading.Timer(seconds, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def is_main() -> bool:
  """Whether this is the process that writes what there is one of: metrics, messages, descriptions."""
  return jax.process_index() == 0


@contextlib.contextmanager
def exiting_at_once() -> Iterator[None]:
  """Around a main: a process that fails leaves without waiting for the others, so that they fail too."""
  try:
    yield
  except BaseException as error:
    status = error.code if isinstance(error, SystemExit) else 1
    if jax.process_count() == 1 or not status:
      raise
    if not isinstance(error, SystemExit):
      traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


@contextlib.contextmanager
def explaining_losses() -> Iterator[None]:
  """Raises ConnectionError where JAX says, in its own words, that another process is gone."""
  try:
    yield
  except InputError:
    raise
  except (ValueError, RuntimeError) as error:
    if jax.process_count() == 1 or not _LOST.search(str(error)):
      raise
    raise ConnectionError(
      f"process {jax.process_index()} of {jax.process_count()} lost the others: "
      f"{str(error).splitlines()[0][:200]}. One of them ended; its own messages say why. Give the same "
      "command to all again: they go on from the newest checkpoint"
    ) from error


@contextlib.contextmanager
def together() -> Iterator[None]:
  """All processes leave this block well, or all raise what the first of them found wrong.

  Raises:
    InputError: one process raised InputError or OSError within.
  """
  error: Exception | None = None
  try:
    yield
  except (InputError, OSError) as found:
    error = found
  messages = gather(str(error) if error else "")
  if error:
    raise error
  for index, message in enumerate(messages):
    if message:
      raise InputError(f"process {index}: {message}")


def gather(text: str) -> list[str]:
  """The texts of all processes, by process; waits for them. Long ones are cut."""
  if jax.process_count() == 1:
    return [text]
  content = np.zeros(_MESSAGE_BYTES, np.uint8)
  encoded = np.frombuffer(text.encode()[:_MESSAGE_BYTES], np.uint8)
  content[: len(encoded)] = encoded
  with explaining_losses():
    rows = np.asarray(multihost_utils.process_allgather(content))
  return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]


def check_same(what: str, value: Any) -> None:
  """Raises InputError unless all processes have the same value."""
  values = gather(str(value))
  if len(set(values)) > 1:
    listed = ", ".join(f"{text} on process {index}" for index, text in enumerate(values))
    raise InputError(
      f"{what} differs: {listed}; all processes need the same command and one shared model_dir"
    )


class Votes:
  """A number from each process with every step; all learn the largest, without waiting for it."""

  def __init__(self):
    mesh = Mesh(np.array(jax.devices()), "all")
    self._each = NamedSharding(mesh, PartitionSpec("all"))
    self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

  def cast(self, number: int) -> jax.Array:
    """The largest of all, int32; all processes call this in the same order."""
    one = np.full(1, number, np.int32)
    return self._largest(jax.make_array_from_callback((jax.device_count(),), self._each, lambda _: one))
