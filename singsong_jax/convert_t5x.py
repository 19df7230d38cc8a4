"""Makes a checkpoint of upstream t5x out of one of ours, or the other way round. Needs no t5x.

  python -m singsong_jax.convert_t5x --to_t5x=FOLDER   <the gin flags of the native training>
  python -m singsong_jax.convert_t5x --from_t5x=FOLDER <the gin flags of the native training>

The first writes the newest checkpoint of MODEL_DIR to FOLDER/checkpoint_<step>; the second writes
FOLDER/checkpoint_<step>, or the newest checkpoint in FOLDER, to MODEL_DIR, where training then goes on.
Parameters, Adafactor's statistics and step go along; the position in the data cannot, so the data begin anew.
"""

import types

import gin
from absl import flags

from singsong_jax import cli, files
from singsong_jax.errors import InputError
from singsong_jax.training import loop, t5x_checkpoints  # noqa: F401  loop registers `train`
from singsong_jax.training.checkpoints import Checkpoints, newest_step
from singsong_jax.training.descriptions import check_description, write_description
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.run import run_settings
from singsong_jax.training.state import TrainState
from singsong_jax.training.step import Steps

_TO = flags.DEFINE_string("to_t5x", None, "folder to write a checkpoint of t5x into")
_FROM = flags.DEFINE_string("from_t5x", None, "checkpoint of t5x, or a folder of them, to read")
_NEEDED = ("model_dir", "optimizer", "system", "train_dataset")


def main(_) -> None:
  if bool(_TO.value) == bool(_FROM.value):
    raise InputError("give one of --to_t5x and --from_t5x")
  run = gin.get_bindings("train")
  for name in _NEEDED:
    if name not in run:
      raise InputError(f"train.{name} is not set; give the gin flags of the native training")
  print(to_t5x(run, _TO.value) if _TO.value else from_t5x(run, _FROM.value))


def to_t5x(run: dict, folder: str) -> str:
  """Writes the newest checkpoint of `run`, the arguments of `loop.train`; returns where."""
  model_dir = files.local_folder(run["model_dir"])
  if newest_step(model_dir) is None:
    raise InputError(f"{model_dir} holds no checkpoint yet; train it first")
  check_description(model_dir, run["system"])
  data = types.SimpleNamespace(restore=lambda folder: None)  # the position in the data stays behind
  # Opening the checkpoints removes what a training is writing.
  with files.locked(model_dir), Checkpoints(model_dir, keep=3) as checkpoints:
    restored = checkpoints.restore_latest(_abstract_state(run), data, lambda meta: None)
  return str(t5x_checkpoints.write_t5x(folder, restored.state))


def from_t5x(run: dict, path: str) -> str:
  """Writes t5x's checkpoint as one of `run`, the arguments of `loop.train`; returns where."""
  model_dir = files.local_folder(run["model_dir"])
  newest = newest_step(model_dir)
  if newest is not None:
    raise InputError(f"{model_dir} has a checkpoint of step {newest} already; give another --gin.MODEL_DIR")
  state = t5x_checkpoints.read_t5x(path, _abstract_state(run))
  data = run["train_dataset"](0, 1)
  meta = {"settings": run_settings(run.get("random_seed", 0), run["optimizer"]), "totals": {}}
  step = int(state.step)
  files.make_folder(model_dir)
  with files.locked(model_dir), Checkpoints(model_dir, keep=3) as checkpoints:
    write_description(model_dir, run["system"])
    checkpoints.save(step, state, data, meta)
  return str(checkpoints.folder / str(step))


def _abstract_state(run: dict) -> TrainState:
  return Steps(run["system"], run["optimizer"], Partitioner(), seed=0, num_microbatches=1).abstract_state


if __name__ == "__main__":
  cli.run(main, uses_gin=True)
