"""The evaluation of a sweep's trained cells, as a sweep of its own: it is run or submitted as trainings are.

In the file

    [evaluate]                              # flags of singsong_jax.evaluate
    songs = "musdb_test"
    embedding = "vggish:/models/vggish-10086976.pth"
    separator = "mdx:/models/vocals.onnx"

`songs` is relative to where the command is given, as `data_dir` is.
"""

import dataclasses
from typing import Any

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.sweeps.grid import Cell, Sweep
from singsong_jax.sweeps.status import is_done

FOLDER = "evaluation"  # of a cell's folder
RESULT = "results.json"
BEST = "best"  # `FadEarlyStopping`'s parameters of the least FADi


def evaluations(sweep: Sweep) -> Sweep:
  """A cell for each that is trained. Its model is the best one, where training kept that.

  Raises:
    InputError: the file does not say how to evaluate, or nothing is trained.
  """
  if not isinstance(sweep.evaluate.get("songs"), str):
    raise InputError(f"{sweep.name} has no table [evaluate] with songs = '…': what trained cells accompany")
  for own in sorted({"model_dir", "output_dir", "step"} & sweep.evaluate.keys()):
    raise InputError(f"evaluate.{own} is set by the sweep, for each cell")
  trained = [cell for cell in sweep.cells if is_done(cell)]
  if not trained:
    raise InputError(f"none of the {len(sweep.cells)} cells of {sweep.name} is trained")
  return dataclasses.replace(
    sweep,
    name=f"{sweep.name}-evaluation",
    cells=tuple(_evaluation(sweep, cell) for cell in trained),
    launcher=sweep.evaluator,
    arguments=(),
  )


def _evaluation(sweep: Sweep, cell: Cell) -> Cell:
  best = cell.model_dir / BEST
  folder = cell.model_dir / FOLDER
  given: dict[str, Any] = {"model_dir": best if best.exists() else cell.model_dir, "output_dir": folder}
  given |= {**sweep.evaluate, "songs": files.local_folder(sweep.evaluate["songs"])}
  arguments = tuple(f"--{name}={value}" for name, value in given.items())
  return Cell(cell.name, folder, arguments, total_steps=0, result=RESULT)
