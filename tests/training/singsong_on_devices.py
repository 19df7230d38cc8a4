"""Prints the losses of a small SingSong's first steps.

`python singsong_on_devices.py <partitions> <microbatches>`
"""

import json
import sys

import numpy as np

from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training.optimizers import adafactor, rsqrt_decay
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps

NETWORK = EncoderDecoderConfig(
  emb_dim=32,
  num_heads=2,
  head_dim=16,
  mlp_dim=64,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout_rate=0.0,  # microbatches draw their own
  dtype="float32",
)
BATCH_SIZE = 16


def make_batch(system, seed):
  rng = np.random.default_rng(seed)
  inputs, targets = (
    layout.block_starts + rng.integers(0, 1024, (BATCH_SIZE, layout.length), dtype=np.int32)
    for layout in (system.input_layout, system.target_layout)
  )
  return {
    "encoder_input_tokens": inputs,
    "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=1),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": np.ones_like(targets),
  }


def losses(num_partitions, num_microbatches):
  """Training losses of four steps, then an evaluation loss."""
  system = SingSong(network=NETWORK, geometry=Geometry(window_seconds=0.4))
  partitioner = Partitioner(num_partitions)
  optimizer = adafactor(rsqrt_decay(warmup_steps=1000))
  steps = Steps(system, optimizer, partitioner, seed=0, num_microbatches=num_microbatches)
  state, found = steps.init(), []
  for seed in range(4):
    state, sums = steps.train(state, partitioner.put_batch(make_batch(system, seed)))
    found.append(sums["loss"])
  found.append(steps.evaluate(state.params, partitioner.put_batch(make_batch(system, 9)))["loss"])
  return [float(total / weight) for total, weight in found]


if __name__ == "__main__":
  print(json.dumps(losses(int(sys.argv[1]), int(sys.argv[2]))))
