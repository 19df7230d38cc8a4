"""Trains a model.

  python -m singsong_jax.train --gin_file=gin/system/singsong.gin --gin_file=gin/size/base.gin … \
    --gin.MODEL_DIR=runs/base --gin.train.total_steps=1000

`./run_train.sh --size=base …` composes such a command. A run that was stopped continues when the same
command is given again.
"""

from absl import flags

from singsong_jax import cli
from singsong_jax.training import loop

_DRY_RUN = flags.DEFINE_bool("dry_run", False, "only trace the whole training step and count parameters")


def main(_) -> None:
  loop.train(dry_run=_DRY_RUN.value)


if __name__ == "__main__":
  cli.run(main, uses_gin=True)
