"""Trains a model.

  python -m singsong_jax.train --gin_file=gin/system/singsong.gin --gin_file=gin/size/base.gin … \
    --gin.MODEL_DIR=runs/base --gin.train.total_steps=1000

`./run_train.sh --size=base …` composes such a command. A run that was stopped continues when the same
command is given again. One run over several processes: the same command for each, with --multiprocess where
a TPU pod, SLURM or Open MPI says who is who, and elsewhere

  … --multiprocess --coordinator_address=HOST:PORT --process_count=N --process_index=I
"""

from absl import flags

from singsong_jax import cli
from singsong_jax.errors import InputError
from singsong_jax.training import distributed, loop

_DRY_RUN = flags.DEFINE_bool("dry_run", False, "only trace the whole training step and count parameters")
_PROFILE = flags.DEFINE_bool(
  "profile", False, "trace a few steps into <model_dir>/tensorboard; --gin.Profile.num_steps says how many"
)
_MULTIPROCESS = flags.DEFINE_bool("multiprocess", False, "this is one of several processes of a run")
flags.DEFINE_alias("multiprocess_gpu", "multiprocess")  # t5x's name
_COORDINATOR_ADDRESS = flags.DEFINE_string("coordinator_address", None, "host:port that process 0 opens")
_PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "number of processes")
_PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "which of them this is, from 0")
_START_SECONDS = flags.DEFINE_integer(
  "start_seconds", distributed.START_SECONDS, "how long to wait for the other processes", lower_bound=1
)


def join_processes() -> None:
  """Joins the other processes where the flags say there are any; before anything asks for a device."""
  given = [flag for flag in (_COORDINATOR_ADDRESS, _PROCESS_COUNT, _PROCESS_INDEX) if flag.value is not None]
  if _MULTIPROCESS.value:
    distributed.initialize(
      _COORDINATOR_ADDRESS.value, _PROCESS_COUNT.value, _PROCESS_INDEX.value, _START_SECONDS.value
    )
  elif given:
    raise InputError(f"--{given[0].name} needs --multiprocess too")


def main(_) -> None:
  join_processes()
  loop.train(dry_run=_DRY_RUN.value, profile=_PROFILE.value)


if __name__ == "__main__":
  with distributed.exiting_at_once():
    cli.run(main, uses_gin=True)
