"""Kills a training run over and over, and compares its records with those of a run nobody disturbed.

python -m benchmarks.soak --data_dir=demo/data --output=benchmarks/results/soak.json

Trains the tiny SingSong on prepared data (`./run_train.sh` makes demo/data), with SIGKILL at random moments
of three kinds: some seconds after the start (imports, restoring, compiling), between steps, and while a
checkpoint is being written. Prints one JSON object.
"""

import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import reports
from singsong_jax import files
from singsong_jax.training.monitoring import MEASURED

ROOT = pathlib.Path(__file__).parent.parent
MOMENTS = ("start", "step", "write")

_DATA_DIR = flags.DEFINE_string("data_dir", "demo/data", "folder of data_pipelines.prepare")
_KILLS = flags.DEFINE_integer("kills", 20, "how often to kill", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 400, "of the run; it must outlast the kills", lower_bound=1)
_SEED = flags.DEFINE_integer("moments_seed", 0, "of the moments")


def kill_repeatedly(
  command: Sequence[str],
  model_dir: pathlib.Path,
  *,
  kills: int,
  start_seconds: float,
  step_seconds: float,
  seed: int = 0,
  environment: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
  """Starts `command`, which trains in `model_dir`, and kills it, `kills` times.

  Args:
    start_seconds: of a kill of the kind 'start', at most so long after the start.
    step_seconds: of a kill of the kind 'step', at most so long after a new record.

  Returns:
    For each kill its `moment`, the last `recorded` step, the newest complete checkpoint `saved`, `found`, the
    step that the killed process itself had started from, and whether it `warned` of a checkpoint.

  Raises:
    RuntimeError: the run ended by itself; it needs more steps.
  """
  rng, happened = random.Random(seed), []
  for index in range(kills):
    moment = MOMENTS[index % len(MOMENTS)]
    with tempfile.TemporaryFile("w+") as said:
      before = _last_record(model_dir)
      process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=said, stderr=said)
      try:
        if moment == "start":
          time.sleep(rng.uniform(0, start_seconds))
        elif moment == "step":
          _wait(process, lambda: _last_record(model_dir) > before)  # noqa: B023
          time.sleep(rng.uniform(0, step_seconds))
        else:
          _wait(process, lambda: any(_being_written(model_dir)))
          time.sleep(rng.uniform(0, 0.1))
      finally:
        process.kill()
        status = process.wait()
      said.seek(0)
      output = said.read()
    if status >= 0:
      raise RuntimeError(f"kill {index}: the run ended with status {status} before it: {output[-2000:]}")
    happened.append(
      {
        "moment": moment,
        "recorded": _last_record(model_dir),
        "saved": max(saved_steps(model_dir), default=0),
        "found": int((re.findall(r"continuing from step (\d+)", output) or [0])[0]),
        "warned": "cannot be read" in output,
      }
    )
  return happened


def _wait(process: subprocess.Popen, condition) -> None:
  while process.poll() is None and not condition():
    time.sleep(0.002)


def records(model_dir: pathlib.Path, split: str) -> list[dict[str, float]]:
  """What a run recorded, without what a clock or a memory says."""
  lines = (model_dir / f"metrics/{split}.jsonl").read_text().splitlines()
  return [{name: x for name, x in json.loads(line).items() if name not in MEASURED} for line in lines]


def saved_steps(model_dir: pathlib.Path) -> list[int]:
  """Complete checkpoints."""
  return sorted(int(path.name) for path in model_dir.glob("checkpoints/*") if path.name.isdecimal())


def _being_written(model_dir: pathlib.Path):
  return model_dir.glob("checkpoints/*.orbax-checkpoint-tmp")


def _last_record(model_dir: pathlib.Path) -> int:
  """The step of the last whole line; 0 without one."""
  path = model_dir / "metrics/train.jsonl"
  text = path.read_text() if path.exists() else ""
  found = re.findall(r'^\{"step": (\d+),.*\}$', text, flags=re.MULTILINE)
  return int(found[-1]) if found else 0


def judge(
  happened: list[dict], whole: pathlib.Path, parts: pathlib.Path, checkpoint_period: int
) -> dict[str, Any]:
  """Counts what must be 0: differing records, lost checkpoints, steps lost beyond the period."""
  saved = [0] + [kill["saved"] for kill in happened]
  # A write that is under way when the next one is due is waited for: two periods, and the step that computes.
  lost = [max(kill["recorded"] - kill["saved"], 0) for kill in happened]
  pairs = [
    pair
    for split in ("train", "eval")
    for pair in zip(records(whole, split), records(parts, split), strict=True)
  ]
  return {
    "differing_records": sum(a != b for a, b in pairs),
    "differing_names": sorted(
      {name for a, b in pairs for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
    ),
    "compared_records": len(pairs),
    "lost_checkpoints": sum(b < a for a, b in itertools.pairwise(saved)),
    "unreadable_checkpoints": sum(kill["warned"] for kill in happened),
    "most_steps_lost": max(lost),
    "steps_lost_beyond_two_periods": sum(steps > 2 * checkpoint_period for steps in lost),
    "kills_per_moment": {moment: sum(kill["moment"] == moment for kill in happened) for moment in MOMENTS},
  }


def main(_) -> None:
  period = 3
  axes = {"system": "singsong", "size": "tiny", "vocals": "noisy", "features": "s_sa", "hardware": "cpu"}
  axes |= {"trainer": "native", "run": "demo"}
  with tempfile.TemporaryDirectory() as folder:

    def command(model_dir: pathlib.Path) -> list[str]:
      settings = {
        "MODEL_DIR": repr(str(model_dir)),
        "DATA_DIR": repr(str(pathlib.Path(_DATA_DIR.value).absolute())),
        "train.total_steps": _STEPS.value,
        "train.stats_period": 1,
        "train.eval_period": 20,
        "train.checkpoint_period": period,
        "train.callbacks": "[]",
        "BATCH_SIZE": 1,
      }
      return [
        sys.executable,
        "-m",
        "singsong_jax.train",
        *(f"--gin_file=gin/{axis}/{value}.gin" for axis, value in axes.items()),
        *(f"--gin.{name}={value}" for name, value in settings.items()),
      ]

    cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | cache
    whole, parts = pathlib.Path(folder) / "whole", pathlib.Path(folder) / "parts"
    started = time.time()
    subprocess.run(command(whole), env=environment, cwd=ROOT, check=True)
    happened = kill_repeatedly(
      command(parts),
      parts,
      kills=_KILLS.value,
      start_seconds=30,
      step_seconds=5,
      seed=_SEED.value,
      environment=environment,
    )
    subprocess.run(command(parts), env=environment, cwd=ROOT, check=True)
    result = {
      "kills": len(happened),
      **judge(happened, whole, parts, period),
      "steps": _STEPS.value,
      "checkpoint_period": period,
      "seed": _SEED.value,
      "minutes": round((time.time() - started) / 60, 1),
    }
  if reports.OUTPUT.value:
    files.write_json(
      reports.OUTPUT.value, {**result, "happened": happened, "machine": reports.describe_machine()}
    )
  print(json.dumps(result))


if __name__ == "__main__":
  app.run(main)
