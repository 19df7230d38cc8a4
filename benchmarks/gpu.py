"""Speed on a GPU: generation, the fine stage, training, attention. One table and one JSON file.

    benchmarks/gpu.sh             # under 10 minutes
    benchmarks/gpu.sh --smoke     # every row with tiny sizes, on a CPU: a minute

Rows come in the order of their importance. Another process measures them (gpu_rows.py), so that one which
crashes or hangs costs no other; the file is written after each. See docs/benchmarks.md.
"""

import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from benchmarks import reports
from singsong_jax import cli, files
from singsong_jax.errors import InputError

_SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes on the CPU, to see that every row works.")
_BUDGET = flags.DEFINE_float("budget_seconds", 540.0, "When they are over, the rows left are skipped.")

ROOT = pathlib.Path(__file__).parent.parent
WORKER = (sys.executable, "-m", "benchmarks.gpu_rows")
START_SECONDS = 120.0  # for the other process to import jax and find its device

Row = dict[str, Any]


def decode(size: str, batch: int) -> Row:
  return {"kind": "decode", "size": size, "batch": batch, "window_seconds": 10.0}


def train(
  size: str,
  features: str,
  batch: int,
  *,
  microbatches: int = 1,
  remat: str = "minimal",
  attention: str = "cudnn",
  scan_layers: bool = True,
) -> Row:
  """With the settings of gin/hardware/gpu.gin, unless said."""
  return {
    "kind": "train",
    "size": size,
    "features": features,
    "batch": batch,
    "microbatches": microbatches,
    "remat": remat,
    "attention": attention,
    "scan_layers": scan_layers,
    "window_seconds": 10.0,
  }


def attention(keys: int) -> dict[str, Row]:
  """The base decoder's attention, to itself with 2250 keys or to the encoder with 250."""
  shape = {"batch": 16, "heads": 12, "queries": 2250, "keys": keys, "head_dim": 64}
  return {
    f"attention, {keys} keys, {implementation}": {
      "kind": "attention",
      "implementation": implementation,
      **shape,
    }
    for implementation in ("ours", "xla", "cudnn")
  }


ROWS: dict[str, Row] = {
  "decode base, batch 1": decode("base", 1),
  "fine base, 10 s": {"kind": "fine", "size": "base", "chunk_seconds": 3.0, "audio_seconds": 10.0},
  "decode base, batch 64": decode("base", 64),
  **attention(2250),
  "train base S-SA, batch 64": train("base", "s_sa", 64),
  "decode xl, batch 1": decode("xl", 1),
  "train base S-SA, batch 128": train("base", "s_sa", 128),
  "train xl S-SA, batch 16": train("xl", "s_sa", 16),
  "train base SA-SA, batch 64": train("base", "sa_sa", 64),
  "decode base, batch 8": decode("base", 8),
  "train base S-SA, batch 512 = 4 × 128": train("base", "s_sa", 512, microbatches=4),
  "train xl S-SA, batch 32": train("xl", "s_sa", 32),
  **attention(250),
  "train base S-SA, batch 32": train("base", "s_sa", 32),
  "train base S-SA, batch 64, XLA's attention": train("base", "s_sa", 64, attention="xla"),
  "train base S-SA, batch 64, nothing recomputed": train("base", "s_sa", 64, remat="none"),
  "train base S-SA, batch 64, all recomputed": train("base", "s_sa", 64, remat="full"),
  "train base SA-SA, batch 32": train("base", "sa_sa", 32),
  "train base SA-SA, batch 128": train("base", "sa_sa", 128),
  "train base S-SA, batch 256": train("base", "s_sa", 256),
}
# cuDNN's attention has a row of its own, which says on a CPU why it does not work.
SMOKE_SIZES = {
  "attention": "xla",
  "size": "tiny",
  "queries": 36,
  "window_seconds": 0.16,
  "chunks": 2,
  "chunk_seconds": 0.2,
}


def main(_) -> None:
  started = time.monotonic()
  deadline = started + _BUDGET.value
  with tempfile.TemporaryDirectory() as folder, Worker(WORKER) as worker:
    _set_environment(folder)
    device = worker.ask({"kind": "device"}, START_SECONDS)
    if device.pop("status") != "ok":
      raise InputError(f"no device to measure on: {device['reason']}")
    results = pathlib.Path(folder) if _SMOKE.value else ROOT / "benchmarks" / "results"
    output = pathlib.Path(reports.OUTPUT.value or results / f"gpu_{reports.slug(device['device'])}.json")
    rows = smoke_rows() if _SMOKE.value else ROWS
    measured: list[dict[str, Any]] = []
    for name, row in rows.items():
      elapsed = time.monotonic() - started
      say(f"[{elapsed:4.0f} s] {len(measured) + 1} of {len(rows)}: {name}")
      measured.append({"name": name, **row, **measure(worker, row, deadline)})
      report = {
        "machine": device,
        "smoke": _SMOKE.value,
        "seconds": time.monotonic() - started,
        "rows": measured,
        "summary": summary(measured),
      }
      files.write_json(output, report)
  print_table(report)
  print(json.dumps(report["summary"]))
  broken = [r["name"] for r in measured if r["status"] != "ok" and r.get("implementation") != "cudnn"]
  if _SMOKE.value and broken:
    sys.exit(f"do not work: {'; '.join(broken)}")


def _set_environment(folder: str) -> None:
  """Settings of jax in the measuring process, unless the caller made others."""
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)  # rows have much in common
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
  if _SMOKE.value:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # sooner compiled


def smoke_rows() -> dict[str, Row]:
  """ROWS at sizes for a CPU, without those that are then the same as an earlier one."""
  rows: dict[str, Row] = {}
  for name, row in ROWS.items():
    small = row | {key: value for key, value in SMOKE_SIZES.items() if key in row}
    if "keys" in row:
      small["keys"] = 36 if row["keys"] == row["queries"] else 4
    for key in row.keys() & {"batch", "microbatches"}:
      small[key] = min(row[key], 2)
    if small not in rows.values():
      rows[name] = small
  return rows


def measure(worker: "Worker", row: Row, deadline: float) -> dict[str, Any]:
  left = deadline - time.monotonic()
  if left <= 0:
    return {"status": "skipped", "reason": "no time left"}
  return worker.ask(row, left)


class Worker:
  """A process that answers rows, lines of JSON both ways; started when asked first or after it died.

  Args:
    command: what to run.
  """

  def __init__(self, command: Sequence[str]):
    self._command = list(command)
    self._process: subprocess.Popen | None = None

  def __enter__(self) -> "Worker":
    return self

  def __exit__(self, *_) -> None:
    self._stop()

  def ask(self, row: Row, seconds: float) -> dict[str, Any]:
    """The answer to `row`; status 'failed' with a reason where none comes in time or the process dies."""
    if self._process is None:
      pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
      self._process = subprocess.Popen(self._command, cwd=ROOT, text=True, bufsize=1, **pipes)
    process = self._process
    try:
      process.stdin.write(json.dumps(row) + "\n")
      readable, _, _ = select.select([process.stdout], [], [], seconds)
      if not readable:
        self._stop()
        return {"status": "failed", "reason": f"not done after {seconds:.0f} s"}
      if line := process.stdout.readline():
        return json.loads(line)
    except BrokenPipeError:
      pass
    self._stop()
    return {"status": "failed", "reason": f"the process died with status {process.returncode}"}

  def _stop(self) -> None:
    """Ends the process, if there is one; one that is at work is killed."""
    if self._process is not None:
      self._process.kill()
      self._process.communicate()
      self._process = None


def summary(rows: Sequence[Row]) -> dict[str, float | None]:
  """The figures that have a goal; None where a row was not measured."""
  value = lambda name, measure: next((row.get(measure) for row in rows if row["name"] == name), None)
  coarse = value("decode base, batch 1", "real_time_factor")
  fine = value("fine base, 10 s", "real_time_factor")
  best = lambda model: max(
    (row.get("model_flops_utilisation") or 0 for row in rows if row["name"].startswith(f"train {model}")),
    default=0,
  )
  return {
    "real_time_factor_coarse_b1": coarse,
    "real_time_factor_with_fine_b1": coarse + fine if coarse and fine else None,
    "audio_seconds_per_second_b64": value("decode base, batch 64", "audio_seconds_per_second"),
    "mfu_base": best("base") or None,
    "mfu_xl": best("xl") or None,
  }


COLUMNS = (  # heading, name in the JSON, format
  ("seconds", "seconds", "{:.4f}"),
  ("tokens/s", "tokens_per_second", "{:.0f}"),
  ("RTF", "real_time_factor", "{:.4f}"),
  ("audio-s/s", "audio_seconds_per_second", "{:.1f}"),
  ("TFLOP/s", "tflops_per_second", "{:.1f}"),
  ("MFU", "model_flops_utilisation", "{:.1%}"),
  ("GiB", "memory_gib", "{:.1f}"),
  ("compile, s", "compile_seconds", "{:.1f}"),
)


def print_table(report: dict[str, Any]) -> None:
  """Prints the rows as a Markdown table, and the reasons of those that were not measured below it."""
  print(f"{report['machine']['device']}, jax {report['machine']['versions']['jax']}\n")
  headings = ["row", *(heading for heading, _, _ in COLUMNS)]
  reports.print_table(headings, [[row["name"], *_cells(row)] for row in report["rows"]])
  for row in report["rows"]:
    if row["status"] != "ok":
      print(f"\n{row['name']}: {row['status']}: {row['reason']}")


def _cells(row: Row) -> list[str]:
  if row["status"] != "ok":
    return [row["status"]] + [""] * (len(COLUMNS) - 1)
  return ["" if row.get(name) is None else form.format(row[name]) for _, name, form in COLUMNS]


def say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  cli.run(main)
