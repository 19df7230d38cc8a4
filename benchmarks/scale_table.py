"""What the paper's models need on TPU slices and on H200s: the table of docs/scale.md.

    python -m benchmarks.scale_table                # compiles what is not in the results yet: minutes each
    python -m benchmarks.scale_table --table_only   # prints the table of what is

Every row is one `python -m singsong_jax.precompile`, one after the other. Needs libtpu and, for GPUs, jax's
CUDA plugin (docs/scale.md says how to install them), and 8 GB of memory; no accelerator.
"""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
from typing import Any

from absl import flags

from benchmarks import reports
from singsong_jax import cli, files

_TABLE_ONLY = flags.DEFINE_bool("table_only", False, "Print the table of the results there are.")
_RESULTS = pathlib.Path(__file__).parent / "results" / "scale.json"
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Row:
  """A model on a machine, and how it is spread there."""

  size: str
  features: str
  topology: str
  fsdp: int = 1
  num_microbatches: int = 1
  remat: str = "minimal"

  @property
  def hardware(self) -> str:
    return "gpu" if self.topology.startswith("h200") else "tpu"

  @property
  def own_arguments(self) -> list[str]:
    """What the command has besides the gin files."""
    settings = [f"--topology={self.topology}", f"--gin.FSDP={self.fsdp}"]
    settings += [f"--gin.NUM_MICROBATCHES={self.num_microbatches}", f"--gin.REMAT={self.remat}"]
    # cuDNN's kernel cannot be compiled without a GPU; XLA's attention takes more memory.
    return settings + (["--gin.ATTENTION=xla"] if self.hardware == "gpu" else [])

  @property
  def command(self) -> list[str]:
    axes = {
      "system": "singsong",
      "size": self.size,
      "vocals": "noisy",
      "features": self.features,
      "hardware": self.hardware,
      "trainer": "native",
      "run": "train",
    }
    gin_files = [f"--gin_file=gin/{axis}/{value}.gin" for axis, value in axes.items()]
    unused = ["--gin.DATA_DIR=unused", "--gin.MODEL_DIR=unused"]
    return ["python", "-m", "singsong_jax.precompile", *gin_files, *unused, *self.own_arguments]


ROWS = (
  Row("base", "s_sa", "v5e:4x4", num_microbatches=4),
  Row("base", "s_sa", "v5e:16x16"),
  Row("xl", "s_sa", "v5e:16x16", fsdp=16),
  Row("xl", "s_sa", "v5p:4x4x4", fsdp=64),
  Row("xl", "s_sa", "h200:8", fsdp=8, num_microbatches=8),
  Row("base", "s_sa", "h200:8", num_microbatches=4),
  Row("base", "s_sa", "h200:64"),
  Row("xl", "s_sa", "h200:64", fsdp=8),
  Row("base", "s_sa", "v4:2x2x2", num_microbatches=4),
  Row("base", "s_sa", "v5p:2x2x2"),
  Row("xl", "s_sa", "v4:4x4x4", fsdp=64, num_microbatches=2),
  Row("base", "sa_sa", "v5e:16x16"),
  Row("xl", "sa_sa", "v5e:16x16", fsdp=16, num_microbatches=2),
)


def main(_) -> None:
  done = files.read_json(_RESULTS)["rows"] if _RESULTS.exists() else []
  wanted = {shlex.join(row.command) for row in ROWS}
  by_command = {measured["command"]: measured for measured in done if measured["command"] in wanted}
  for row in ROWS if not _TABLE_ONLY.value else ():
    command = shlex.join(row.command)
    if command not in by_command:
      print(command, file=sys.stderr, flush=True)
      by_command[command] = {"command": command, **measure(row)}
      report = {"machine": reports.describe_machine(), "rows": list(by_command.values())}
      files.write_json(_RESULTS, report)
  headings = ("model", "machine", "mesh", "microbatches", "remat", "GiB a chip", "a chip sends", "step, s")
  rows = sorted(ROWS, key=lambda row: (row.size, row.features, row.topology))
  measured = [(row, by_command.get(shlex.join(row.command))) for row in rows]
  reports.print_table(headings, [cells(row, found) for row, found in measured if found])
  print("\n" + "\n".join(f"{row.size:<5}{row.features:<6}{shlex.join(row.own_arguments)}" for row in rows))


def measure(row: Row) -> dict[str, Any]:
  """The command's report; or why there is none."""
  finished = subprocess.run(
    [sys.executable, *row.command[1:], "--json"], capture_output=True, text=True, check=False
  )
  if finished.returncode:
    return {"error": (finished.stderr.strip().splitlines() or ["no message"])[-1]}
  return {"report": json.loads(finished.stdout)}


def cells(row: Row, measured: dict[str, Any]) -> list[str]:
  """A row of the table."""
  model = f"{row.size} {row.features.replace('_', '-').upper()}"
  if "error" in measured:
    return [model, row.topology, "", "", row.remat, measured["error"], "", ""]
  report = measured["report"]
  memory, prediction = report["memory"], report["prediction"]
  attention = " ¹" if row.hardware == "gpu" else ""
  return [
    model,
    row.topology,
    " × ".join(str(size) for size in report["mesh"].values()),
    str(report["num_microbatches"]),
    row.remat,
    f"{memory['total'] / GIB:.1f} of {memory['device'] / GIB:.0f}{attention}",
    ", ".join(_collective(c) for c in report["collectives"] if c["sent_bytes"] > 0.01 * GIB),
    f"{prediction['least_seconds']:.3g} – {prediction['most_seconds']:.3g}" if prediction else "not known",
  ]


def _collective(collective: dict[str, Any]) -> str:
  axes = " × ".join(collective["axes"])
  return f"{collective['kind']} over {axes} {collective['sent_bytes'] / GIB:.2f} GiB"


if __name__ == "__main__":
  cli.run(main)
