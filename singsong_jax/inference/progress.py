"""How far a stage is, and how long it takes."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

_FORMAT = "{desc}: {percentage:3.0f}%|{bar:30}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


def progress_bar(stage: str, total_seconds: float, done_seconds: float = 0.0) -> tqdm:
  """Progress of a stage in seconds of audio, with the time it will still take; a context manager.

  Elsewhere than on a terminal it is shown every half minute. Stages of less than a second are not shown.
  """
  terminal = sys.stderr.isatty()
  return tqdm(
    desc=stage,
    total=total_seconds,
    initial=done_seconds,
    bar_format=_FORMAT,
    mininterval=0.1 if terminal else 30,
    delay=1,
    dynamic_ncols=terminal,
  )


@dataclasses.dataclass
class StageTimes:
  """What a stage did in this process, and how long that took; all in seconds."""

  audio: float = 0.0
  computing: float = 0.0
  compiling: float = 0.0

  def generate(self, audio: float, call: Callable[..., jax.Array], *args, **kwargs) -> np.ndarray:
    """`call(…)`, waited for. A call returns when the program is compiled and queued, before it has run."""
    started = time.perf_counter()
    result = call(*args, **kwargs)
    compiled = time.perf_counter()
    result = np.asarray(result)
    self.audio += audio
    self.compiling += compiled - started
    self.computing += time.perf_counter() - compiled
    return result

  @contextlib.contextmanager
  def measure(self, audio: float) -> Iterator[None]:
    """Times what is done within, for a stage that compiles nothing."""
    started = time.perf_counter()
    yield
    self.audio += audio
    self.computing += time.perf_counter() - started

  def report(self) -> dict[str, float | None]:
    """JSON; the real-time factor is None where everything had been there already."""
    return {
      "real_time_factor": round(self.computing / self.audio, 4) if self.audio else None,
      "computing_seconds": round(self.computing, 3),
      "compiling_seconds": round(self.compiling, 3),
    }
