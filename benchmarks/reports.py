"""Where a benchmark's results go, and what they must be read with: processor, cores, versions."""

import importlib.metadata
import os
import pathlib
import platform
import re
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

OUTPUT = flags.DEFINE_string("output", None, "Where to write everything measured, as JSON.")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "t5x")


def describe_machine() -> dict[str, Any]:
  """Processor, usable cores, memory in GiB, Python, and the versions of the installed packages."""
  return {
    "processor": processor(),
    "cores": len(os.sched_getaffinity(0)),
    "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    "python": platform.python_version(),
    "versions": {name: version for name in PACKAGES if (version := _version(name))},
  }


def processor() -> str:
  """The processor's name as Linux reports it."""
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.machine()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
  """Prints a Markdown table."""
  for cells in (headings, ["---"] * len(headings), *rows):
    print(f"| {' | '.join(cells)} |")


def slug(name: str) -> str:
  """`name` as part of a file name: 'NVIDIA H200' → 'nvidia_h200'."""
  return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
