"""Rows of docs/scale.md: commands that can be given, and cells that say what the report says."""

import pathlib

from benchmarks import scale_table

ROOT = pathlib.Path(scale_table.__file__).parent.parent


def test_commands_name_files_that_exist():
  commands = [tuple(row.command) for row in scale_table.ROWS]
  assert len(set(commands)) == len(commands)
  for argument in {argument for command in commands for argument in command}:
    if argument.startswith("--gin_file="):
      assert (ROOT / argument.removeprefix("--gin_file=")).is_file(), argument


def test_cells():
  row = scale_table.Row("xl", "s_sa", "h200:64", fsdp=8)
  gather = {"kind": "all-gather", "axes": ["fsdp"], "sent_bytes": 3 * 2**30}
  little = {"kind": "all-reduce", "axes": ["data"], "sent_bytes": 1000}
  report = {
    "mesh": {"data": 8, "fsdp": 8, "model": 1},
    "num_microbatches": 1,
    "memory": {"total": 20 * 2**30, "device": 141 * 2**30},
    "collectives": [gather, little],
    "prediction": {"least_seconds": 0.456, "most_seconds": 0.5},
  }
  assert scale_table.cells(row, {"report": report}) == [
    "xl S-SA", "h200:64", "8 × 8 × 1", "1", "minimal", "20.0 of 141 ¹", "all-gather over fsdp 3.00 GiB",
    "0.456 – 0.5",
  ]  # fmt: skip
  assert "does not fit" in scale_table.cells(row, {"error": "the step does not fit"})[5]
