"""Whether what is asked for fits into memory, before hours are spent on it."""

import bisect
import math
import pathlib
import re
from collections.abc import Callable

import jax

from singsong_jax.errors import InputError


def available_bytes() -> int | None:
  """Memory free on the first device, or of the machine where that is its CPU; None if unknown."""
  device = jax.devices()[0]
  if device.platform != "cpu":
    stats = device.memory_stats() or {}
    free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
    return free if free > 0 else None
  found = re.search(r"^MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"), flags=re.MULTILINE)
  if not found:  # not Linux
    return None
  limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
  left = int(limit) - int(used) if limit.isdecimal() and used.isdecimal() else math.inf  # in a container
  return min(int(found[1]) * 1024, left)


def _read(path: str) -> str:
  try:
    return pathlib.Path(path).read_text(encoding="ascii")
  except OSError:
    return ""


def check_samples(samples: int, bytes_of: Callable[[int], int]) -> None:
  """Raises InputError if `bytes_of(samples)`, which grows with the samples, is more than there is."""
  available, needed = available_bytes(), bytes_of(samples)
  if available is None or needed <= available:
    return
  fitting = bisect.bisect_right(range(1, samples + 1), available, key=bytes_of)
  advice = f"at most {fitting} fit" if fitting else "not even one fits"
  raise InputError(
    f"samples={samples} would take {needed / 2**30:.2f} GiB of memory while generating, and "
    f"{available / 2**30:.2f} GiB are available; {advice}"
  )
