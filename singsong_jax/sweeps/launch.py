"""The cells of a sweep as text that other programs start: shell lines, a SLURM array, an XManager script."""

import pprint
import shlex
from collections.abc import Sequence

from singsong_jax.errors import InputError
from singsong_jax.sweeps.grid import ROOT, Cell, Sweep
from singsong_jax.sweeps.status import RUNNING, STATUS_FILE, signs_of_the_end

_SLURM = """#!/usr/bin/env bash
# Sweep {name}: a cell a task. Before the first time: ./run_train.sh --setup_only && mkdir -p {model_dir}
# A task that is started again goes on where it was; make this script anew to leave out cells that are done.
#SBATCH --job-name={job_name}
#SBATCH --array=0-{last}{limit}
{options}
set -uo pipefail
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
mkdir -p "$model_dir"
echo {running} >"$model_dir/{status_file}"
cd {root} && "${{command[@]}}"
status=$?
echo $status >"$model_dir/{status_file}"
[[ $status == 0 ]] || exit $status
for sign in "${{signs[@]}}"; do
  [[ ! -e $model_dir/$sign ]] || exit 0
done
# It saved and stopped before the time was up: to be continued.
scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
"""
# Two minutes' notice before the end: the trainer saves at SIGTERM.
_SLURM_DEFAULTS = {"signal": "TERM@120", "requeue": True}

_XMANAGER = '''"""Sweep {name}: xmanager launch THIS_FILE -- --xm_wrap_late_bindings

Adapt executor, requirements and image to your machines (github.com/google-deepmind/xmanager). The folders in
the arguments must be there in the container: a bucket that is mounted, for one.
"""

from absl import app
from xmanager import xm, xm_local

CELLS = {cells}


@xm.run_in_asyncio_loop
async def main(_):
  async with xm_local.create_experiment(experiment_title={name!r}) as experiment:
    executor = xm_local.Vertex(requirements=xm.JobRequirements(tpu_v3=8))
    spec = xm.python_container(
      executor.Spec(),
      path={root!r},
      base_image="python:3.11",
      docker_instructions=[
        "COPY {folder}/ /singsong_jax",
        "WORKDIR /singsong_jax",
        "RUN SINGSONG_EXTRAS=tpu ./run_train.sh --setup_only",
      ],
      entrypoint=xm.CommandList([{launcher!r}]),  # XManager adds a job's arguments
    )
    [executable] = experiment.package([spec])
    for arguments in CELLS.values():
      experiment.add(xm.Job(executable=executable, executor=executor, args=arguments))


if __name__ == "__main__":
  app.run(main)
'''


def shell_lines(sweep: Sweep, cells: Sequence[Cell]) -> str:
  """A command a line; each can be run by itself, from anywhere, in any order."""
  return "\n".join(f"cd {shlex.quote(str(ROOT))} && {shlex.join(sweep.command(cell))}" for cell in cells)


def slurm_script(sweep: Sweep, cells: Sequence[Cell]) -> str:
  """A script for sbatch: an array with a task for each cell.

  The file's [slurm] table has sbatch's options (`gpus-per-node = 8`; true for one without a value), and
  `parallel`, the number of tasks that may run at once.

  Raises:
    InputError: there are no cells; an option of the table that is the script's own.
  """
  if not cells:
    raise InputError("no cell is left to start")
  options = _SLURM_DEFAULTS | {"output": str(sweep.model_dir / "slurm-%A_%a.out")} | dict(sweep.slurm)
  parallel = options.pop("parallel", None)
  for own in {"array", "job-name"} & options.keys():
    raise InputError(
      f"slurm.{own} is set by the sweep; [slurm] is for other options of sbatch, and `parallel`"
    )
  cases = [
    f"{i}) model_dir={shlex.quote(str(cell.model_dir))} signs=({shlex.join(signs_of_the_end(cell))})\n"
    # Training may be several processes, by the options of [slurm]; an evaluation is one.
    f"  command=(srun {'--ntasks=1 ' if cell.result else ''}{shlex.join(sweep.command(cell))}) ;;"
    for i, cell in enumerate(cells)
  ]
  return _SLURM.format(
    name=sweep.name,
    job_name=shlex.quote(sweep.name),
    model_dir=shlex.quote(str(sweep.model_dir)),
    last=len(cells) - 1,
    limit=f"%{parallel}" if parallel else "",
    options="\n".join(_sbatch_line(key, value) for key, value in options.items() if value is not False),
    cases="\n".join(cases),
    running=RUNNING,
    status_file=STATUS_FILE,
    root=shlex.quote(str(ROOT)),
  ).rstrip()


def _sbatch_line(key: str, value: object) -> str:
  return f"#SBATCH --{key}" if value is True else f"#SBATCH --{key}={shlex.quote(str(value))}"


def xmanager_script(sweep: Sweep, cells: Sequence[Cell]) -> str:
  """A launch script with a work unit for each cell, to be adapted: executors differ from place to place."""
  arguments = {cell.name: [*cell.arguments, *sweep.arguments] for cell in cells}
  return _XMANAGER.format(
    name=sweep.name,
    cells=pprint.pformat(arguments, width=110, sort_dicts=False),
    root=str(ROOT),
    folder=ROOT.name,
    launcher=shlex.join(sweep.launcher),
  ).rstrip()
