"""Which Beam runner does the work, and one pipeline shape for both Beam stages."""

import contextlib
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from data_pipelines.workers import Workers, cores
from singsong_jax import cli
from singsong_jax.errors import InputError

# Workers of one machine would otherwise start as many threads as it has cores, each.
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def run(
  elements: Sequence[Any],
  dofn: beam.DoFn,
  workers: Workers,
  processes: int = 1,
  expand: Callable[[Any], Iterable[Any]] | None = None,
) -> None:
  """Applies `dofn` to every element, and returns when all are done.

  Args:
    processes: of this machine, by `Workers.processes`.
    expand: what becomes of an element before that: the list of them may be too long for a job's description.

  Raises:
    InputError: a worker raised one (full disk, damaged file), or Beam does not take the options.
  """
  options = list(workers.beam_options)
  runner = None
  if not workers.chosen_by_beam:
    # FnApiRunner by name: DirectRunner would first look for a Prism binary to download.
    runner = FnApiRunner()
    # It logs the tracebacks of what it then raises, before anyone can catch it.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    if processes > 1:
      options += ["--direct_running_mode=multi_processing", f"--direct_num_workers={processes}"]
  try:
    unstarted = beam.Pipeline(runner=runner, options=PipelineOptions(options))
  except (ValueError, ImportError) as error:
    raise InputError(f"--beam_options={shlex.join(options)}: {error}") from error
  try:
    with _leaving_at_ctrl_c(), _leaving_without_worker(), _few_threads(processes), unstarted as pipeline:
      build(pipeline, elements, dofn, expand)
  except Exception as error:
    # Beam says where it was, and brings another process's exception as the text of its traceback.
    message = str(error).partition(" [while running")[0]
    found = message if isinstance(error, InputError) else re.findall(r"InputError: (.*)", message)[:1]
    if found:
      raise InputError("".join(found)) from error
    raise


def build(
  pipeline: beam.Pipeline,
  elements: Sequence[Any],
  dofn: beam.DoFn,
  expand: Callable[[Any], Iterable[Any]] | None = None,
) -> None:
  """The pipeline of a stage."""
  work = pipeline | beam.Create(elements, reshuffle=False)
  if expand is not None:
    work = work | "Expand" >> beam.FlatMap(expand)
  # Reshuffle lets a runner with several machines share the elements out.
  _ = work | beam.Reshuffle() | type(dofn).__name__ >> beam.ParDo(dofn)


@contextlib.contextmanager
def _few_threads(processes: int) -> Iterator[None]:
  """Processes that start meanwhile take their share of the cores."""
  if processes == 1:
    yield
    return
  share = str(max(1, cores() // processes))
  before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
  os.environ.update({name: value or share for name, value in before.items()})
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        del os.environ[name]


@contextlib.contextmanager
def _leaving_at_ctrl_c() -> Iterator[None]:
  """Ctrl-C ends the process at once: Beam loses a KeyboardInterrupt, or turns it into a page of traceback.

  Nothing is lost: files appear by renaming, and the next job sweeps up the others.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  previous = signal.signal(signal.SIGINT, _leave)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _leaving_without_worker() -> Iterator[None]:
  """The death of a process that Beam started ends this one: Beam would wait for its answer for ever."""
  previous = threading.excepthook

  def leave(raised: threading.ExceptHookArgs) -> None:
    if died := re.search(r"Worker subprocess exited with return code (-?\d+)", str(raised.exc_value)):
      print(
        f"\nerror: a worker process ended with status {died[1]}, killed perhaps for want of memory: each of "
        "--num_workers takes its own. Nothing is lost; the same command goes on from here",
        file=sys.stderr,
        flush=True,
      )
      os._exit(cli.INPUT_ERROR_STATUS)
    previous(raised)

  threading.excepthook = leave
  try:
    yield
  finally:
    threading.excepthook = previous


def _leave(*_) -> None:
  print("\ninterrupted; the same command goes on from here", file=sys.stderr, flush=True)
  os._exit(cli.INTERRUPTED_STATUS)
