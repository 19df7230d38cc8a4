"""The least system, data and command line a trainer can train: seconds instead of minutes in tests.

As a program it trains: `python toy_system.py --gin.train.model_dir=… --gin.train.total_steps=…`.
"""

import dataclasses
import os
import signal
import sys
import time

import flax.linen as nn
import gin
import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax import cli, train
from singsong_jax.training import distributed, loop, optimizers

VOCAB, WIDTH, LENGTH = 10, 8, 6


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ToySystem:
  """Predicts each target from its input token alone: embedding, dropout, dense."""

  width: int = WIDTH
  dropout_rate: float = 0.1
  name = "toy"

  def init(self, rng):
    keys = jax.random.split(rng)
    shapes = {
      "embedding": ((VOCAB, self.width), ("vocab", "embed")),
      "head": ((self.width, 2 * VOCAB), ("embed", "mlp")),
    }
    return {
      name: nn.LogicallyPartitioned(jax.random.normal(key, shape), axes)
      for key, (name, (shape, axes)) in zip(keys, shapes.items())
    }

  def loss(self, params, batch, dropout_rng, step=None):
    params = nn.unbox(params)
    x = params["embedding"][batch["inputs"]]  # [B, T, width]
    x = nn.with_logical_constraint(x, ("batch", "length", "embed"))
    if dropout_rng is not None:
      keep = jax.random.bernoulli(dropout_rng, 1 - self.dropout_rate, x.shape)
      x = jnp.where(keep, x / (1 - self.dropout_rate), 0)
    logits = x @ params["head"]  # [B, T, 2·VOCAB]
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], -1)[..., 0]
    weights = batch["weights"].astype(jnp.float32)
    total, weight = jnp.sum(nll * weights), jnp.sum(weights)
    correct = jnp.sum((jnp.argmax(logits, -1) == batch["targets"]) * weights)
    never = (jnp.zeros(()), jnp.zeros(()))
    return total, {"loss": (total, weight), "accuracy": (correct, weight), "nll_never": never}

  def batch_shapes(self, batch_size):
    names = ("inputs", "targets", "weights")
    return {name: jax.ShapeDtypeStruct((batch_size, LENGTH), jnp.int32) for name in names}

  def training_flops(self, batch_size):
    return 3.0 * 2 * batch_size * LENGTH * self.width * 2 * VOCAB

  @property
  def axis_sizes(self):
    return {"embed": self.width, "mlp": 2 * VOCAB}

  def describe(self):
    return {"system": self.name, **dataclasses.asdict(self)}


def toy_from_description(description):
  return ToySystem(**{key: value for key, value in description.items() if key != "system"})


def toy_batch(index, batch_size=8):
  rng = np.random.default_rng(index)
  inputs = rng.integers(0, VOCAB, (batch_size, LENGTH), dtype=np.int32)
  weights = (rng.random((batch_size, LENGTH)) < 0.8).astype(np.int32)
  return {"inputs": inputs, "targets": (inputs * 3 + 1) % VOCAB, "weights": weights}


@gin.configurable
class ToyIterator:
  """The rows of one part of batches that are a function of their index.

  Attributes:
    delay_seconds: per batch, so that a test can hit a run while it runs.
    kill_at: index of the batch at which the process kills itself.
    kills: index of the part that does so.
    broken_at: indices of batches whose weights are all 0, which makes the loss NaN.
  """

  def __init__(
    self, part=0, num_parts=1, batch_size=8, delay_seconds=0.0, kill_at=None, kills=0, broken_at=()
  ):
    self.index = 0
    self._part, self._num_parts = part, num_parts
    self._batch_size, self._delay_seconds = batch_size, delay_seconds
    self._kill_at = kill_at if part == kills else None
    self._broken_at = broken_at

  def __next__(self):
    time.sleep(self._delay_seconds)
    if self.index == self._kill_at:
      os.kill(os.getpid(), signal.SIGKILL)
    batch = toy_batch(self.index, self._batch_size)
    if self.index in self._broken_at:
      batch["weights"] = np.zeros_like(batch["weights"])
    batch["ids"] = np.array([f"{self.index}/{row}" for row in range(self._batch_size)], np.bytes_)
    self.index += 1
    rows = self._batch_size // self._num_parts
    return {name: array[self._part * rows :][:rows] for name, array in batch.items()}

  def save(self, folder):
    (folder / "position").write_text(str(self.index))

  def restore(self, folder):
    self.index = int((folder / "position").read_text())


@gin.configurable
def toy_eval_batches(rows=(8, 8, 3)):
  return [toy_batch(1000 + i, count) for i, count in enumerate(rows)]


def settings(model_dir, **changes):
  """Arguments of `loop.train` for a run of 12 quick steps."""
  return {
    "model_dir": str(model_dir),
    "system": ToySystem(),
    "optimizer": optimizers.adafactor(optimizers.rsqrt_decay(warmup_steps=100)),
    "train_dataset": ToyIterator,
    "eval_dataset": toy_eval_batches,
    "total_steps": 12,
    "eval_period": 4,
    "stats_period": 1,
    "checkpoint_period": 4,
    "retry_seconds": (0.01, 0.01),
    **changes,
  }


def main(_):
  if os.environ.get("TOY_WITHOUT_TENSORBOARD"):  # TensorFlow takes longer to import than all else
    sys.modules["clu.metric_writers"] = None
  train.join_processes()
  bound = gin.get_bindings("train")  # what the command line sets wins
  loop.train(**{name: value for name, value in settings("unset").items() if name not in bound})


if __name__ == "__main__":
  with distributed.exiting_at_once():
    cli.run(main, uses_gin=True)
