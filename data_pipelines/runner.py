"""Which Beam runner does the work, and one pipeline shape for both Beam stages."""

import contextlib
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from singsong_jax import cli
from singsong_jax.errors import InputError


def run(elements: Sequence, dofn: beam.DoFn, beam_options: Sequence[str]) -> None:
  """Applies `dofn` to every element, and returns when all are done.

  Without `--runner` among the options it is Beam's in-memory runner in this process.

  Raises:
    InputError: the runner asked for loses records, or a worker raised one (full disk, damaged file).
  """
  if any("multi_threading" in option for option in beam_options):
    raise InputError(
      "--direct_running_mode=multi_threading silently loses records; use in_memory or multi_processing"
    )
  # FnApiRunner by name: DirectRunner would first look for a Prism binary to download.
  runner = None if any(option.startswith("--runner") for option in beam_options) else FnApiRunner()
  if runner is not None:  # It logs the tracebacks of what it then raises, before anyone can catch it.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
  try:
    options = PipelineOptions(list(beam_options))
    unstarted = beam.Pipeline(runner=runner, options=options)
  except (ValueError, ImportError) as error:
    raise InputError(f"--beam_options={shlex.join(beam_options)}: {error}") from error
  try:
    with _leaving_at_ctrl_c(), unstarted as pipeline:
      # Reshuffle lets a runner with several machines share the elements out.
      _ = pipeline | beam.Create(elements) | beam.Reshuffle() | beam.ParDo(dofn)
  except Exception as error:
    # Beam says where it was, and brings another process's exception as the text of its traceback.
    message = str(error).partition(" [while running")[0]
    found = message if isinstance(error, InputError) else re.findall(r"InputError: (.*)", message)[:1]
    if found:
      raise InputError("".join(found)) from error
    raise


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


def _leave(*_) -> None:
  print("\ninterrupted; the same command goes on from here", file=sys.stderr, flush=True)
  os._exit(cli.INTERRUPTED_STATUS)
