"""Which Beam runner does the work, and one pipeline shape for both Beam stages."""

import logging
import re
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

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
    with beam.Pipeline(runner=runner, options=PipelineOptions(list(beam_options))) as pipeline:
      # Reshuffle lets a runner with several machines share the elements out.
      _ = pipeline | beam.Create(elements) | beam.Reshuffle() | beam.ParDo(dofn)
  except Exception as error:
    # Beam says where it was, and brings another process's exception as the text of its traceback.
    message = str(error).partition(" [while running")[0]
    found = message if isinstance(error, InputError) else re.findall(r"InputError: (.*)", message)[:1]
    if found:
      raise InputError("".join(found)) from error
    raise
