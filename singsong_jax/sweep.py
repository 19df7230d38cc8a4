"""Runs, prints or submits a grid of trainings, and says how far they are.

  python -m singsong_jax.sweep gin/sweeps/table1.toml                     what there is to do
  python -m singsong_jax.sweep gin/sweeps/table1.toml --mode=run          one after the other, here
  python -m singsong_jax.sweep gin/sweeps/table1.toml --mode=slurm        an array job, for sbatch
  python -m singsong_jax.sweep gin/sweeps/table1.toml --status            a table of how far they are
  python -m singsong_jax.sweep gin/sweeps/table1.toml --evaluate --mode=run   what is trained, so
  python -m singsong_jax.sweep gin/sweeps/table1.toml --report=OUT        Tables 1 and 2, Figures 3 and 5
  python -m singsong_jax.sweep gin/sweeps/table1.toml --report=OUT --study=STUDY    Figures 4 and 6, too

Cells that are done are left out. What a file looks like: singsong_jax/sweeps/grid.py; docs/sweeps.md.
"""

import dataclasses
import pathlib
import re
import sys

from absl import flags

from singsong_jax import cli
from singsong_jax.errors import InputError, did_you_mean
from singsong_jax.sweeps import launch, runner, status
from singsong_jax.sweeps.evaluations import evaluations
from singsong_jax.sweeps.grid import Cell, Sweep, load_sweep

_EMIT = {"shell": launch.shell_lines, "slurm": launch.slurm_script, "xmanager": launch.xmanager_script}
_MODE = flags.DEFINE_enum(
  "mode", "print", ["print", "run", *_EMIT], "print what there is; run it; or write text that starts it"
)
_STATUS = flags.DEFINE_bool("status", False, "print a table of how far the cells are, and do nothing else")
_REPORT = flags.DEFINE_string(
  "report", None, "folder: write the table and the figures of what has been evaluated, and do nothing else"
)
_STUDY = flags.DEFINE_string(
  "study", None, "with --report: folder of a listening study, or its answers.csv, for Figures 4 and 6"
)
_EVALUATE = flags.DEFINE_bool(
  "evaluate", False, "the evaluation of the cells that are trained, in place of training, by any --mode"
)
_ONLY = flags.DEFINE_string("only", None, "a regular expression: cells whose name it is found in")
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "folder of the sweep, in place of the file's")
_DATA_DIR = flags.DEFINE_multi_string(
  "data_dir", [], "PATH, or NAME=PATH where the file names several, in place of the file's"
)


def main(argv: list[str]) -> None:
  sweep = load_sweep(argv[1], _MODEL_DIR.value, _data_dirs(_DATA_DIR.value))
  if _STUDY.value and not _REPORT.value:
    raise InputError("--study is for --report=OUT: give that, too")
  if _EVALUATE.value and _REPORT.value:
    raise InputError("--report is of what --evaluate has made: one after the other")
  cells = _chosen(sweep, _ONLY.value)
  if _EVALUATE.value:
    sweep = evaluations(dataclasses.replace(sweep, cells=tuple(cells)))
    cells = [*sweep.cells]
  if _REPORT.value:
    _report(cells, pathlib.Path(_REPORT.value))
  elif _STATUS.value:
    print(status.table(map(status.status_of, cells)))
  elif _MODE.value == "print":
    print("\n".join(_described(sweep, cell) for cell in cells))
  else:
    _start(sweep, cells)


def _report(cells: list[Cell], folder: pathlib.Path) -> None:
  # These draw: the other modes start sooner without.
  from singsong_jax.listening import analysis
  from singsong_jax.listening import report as listening_report
  from singsong_jax.sweeps import report

  rows = [*map(report.row_of, cells)]
  study = analysis.analyse(analysis.read_answers(pathlib.Path(_STUDY.value))) if _STUDY.value else None
  print(report.markdown(rows))
  paths = report.write(rows, folder)
  if study is not None:
    paths += listening_report.write(study, folder / "study")
  for path in paths:
    print(f"wrote {path}")


def _data_dirs(given: list[str]) -> dict[str, str]:
  """PATH is of the folder without a name. A path with a `=` in it needs the NAME."""
  return {
    name if equals else "": path if equals else name
    for name, equals, path in (x.partition("=") for x in given)
  }


def _chosen(sweep: Sweep, only: str | None) -> list[Cell]:
  try:
    pattern = re.compile(only or "")
  except re.error as error:
    raise InputError(f"--only={only} is not a regular expression: {error}") from error
  cells = [cell for cell in sweep.cells if pattern.search(cell.name)]
  if not cells:
    near = did_you_mean(str(only), [cell.name for cell in sweep.cells])
    raise InputError(f"--only={only} is found in no cell's name{near}")
  return cells


def _described(sweep: Sweep, cell: Cell) -> str:
  return f"# {cell.name}: {status.status_of(cell).state}\n{launch.shell_lines(sweep, [cell])}"


def _start(sweep: Sweep, cells: list[Cell]) -> None:
  left = [cell for cell in cells if not status.is_done(cell)]
  if len(left) < len(cells):
    print(f"{len(cells) - len(left)} of {len(cells)} cells are done and left out", file=sys.stderr)
  if _MODE.value != "run":
    print(_EMIT[_MODE.value](sweep, left))
    return
  unfinished, stopped_by = runner.run_cells(sweep, left)
  print(status.table(map(status.status_of, cells)))
  if stopped_by is not None:
    print("stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(128 + stopped_by)
  if unfinished:
    raise InputError(
      f"not finished: {' '.join(cell.name for cell in unfinished)}; the same command tries again"
    )


if __name__ == "__main__":
  cli.run(main, takes_files=1)
