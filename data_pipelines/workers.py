"""Where the work of a stage is done: in this process, in several of this machine, or wherever Beam is told
to.
"""

import dataclasses
import os
from collections.abc import Callable

from singsong_jax.errors import InputError

_START_SECONDS = 40  # for which a further process should be saved: what one takes to import TensorFlow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workers:
  """What the user asks for.

  Attributes:
    number: processes of this machine; 0: as many as it has cores, but none for work of less than a minute.
    beam_options: Beam's own flags; with `--runner` among them Beam decides everything.
  """

  number: int = 0
  beam_options: tuple[str, ...] = ()

  def __post_init__(self):
    if self.number < 0:
      raise InputError(f"num_workers is {self.number}; it must be at least 0")
    if any("multi_threading" in option for option in self.beam_options):
      raise InputError(
        "--direct_running_mode=multi_threading silently loses records; use in_memory or multi_processing"
      )
    if self.number and self.chosen_by_beam:
      raise InputError(
        "--num_workers is for this machine; a --runner among --beam_options has its own options"
      )

  @property
  def chosen_by_beam(self) -> bool:
    """Whether a runner of the user's does the work."""
    return any(option.startswith("--runner") for option in self.beam_options)

  def processes(self, work_seconds: Callable[[], float], elements: int) -> int:
    """How many processes of this machine do the work; 1: this one.

    Args:
      work_seconds: what it takes on one core; asked where nobody has decided.
      elements: into how many parts it can be dealt.
    """
    if self.chosen_by_beam:
      return 1
    worthwhile = self.number or min(cores(), int(work_seconds() // _START_SECONDS))
    return max(1, min(worthwhile, elements))

  def in_this_process(self, processes: int) -> bool:
    """Whether the work can call back."""
    return processes == 1 and not self.chosen_by_beam


def cores() -> int:
  """Those this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
