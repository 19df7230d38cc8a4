"""Prints the losses of a small SingSong's first steps on several meshes of eight devices, as JSON."""

import dataclasses
import json
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np

from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training.optimizers import adafactor, rsqrt_decay
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps

NETWORK = EncoderDecoderConfig(
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  mlp_dim=64,
  num_encoder_layers=2,
  num_decoder_layers=2,
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


def losses(num_partitions=1, fsdp=1, num_microbatches=1, devices=8, **network):
  """Training losses of four steps, then an evaluation loss."""
  network = dataclasses.replace(NETWORK, **network)
  system = SingSong(network=network, geometry=Geometry(window_seconds=0.4))
  partitioner = Partitioner(num_partitions, fsdp, devices=jax.devices()[:devices])
  partitioner.check_axes(system.axis_sizes)
  optimizer = adafactor(rsqrt_decay(warmup_steps=1000), min_dim_size_to_factor=16)
  steps = Steps(system, optimizer, partitioner, seed=0, num_microbatches=num_microbatches)
  state, found = steps.init(), []
  for seed in range(4):
    state, sums = steps.train(state, partitioner.put_batch(make_batch(system, seed)))
    found.append(sums["loss"])
  found.append(steps.evaluate(state.params, partitioner.put_batch(make_batch(system, 9)))["loss"])
  return [float(total / weight) for total, weight in found]


if __name__ == "__main__":
  found = {
    "one device": losses(devices=1),
    "one device, microbatches": losses(devices=1, num_microbatches=4),
    "8 data": losses(),
    "4 data × 2 model": losses(num_partitions=2),
    "2 data × 4 model, padded vocabulary": losses(num_partitions=4, vocab_multiple=8),
    "8 fsdp, layers scanned and recomputed": losses(fsdp=8, scan_layers=True, remat="minimal"),
    "2 data × 2 fsdp × 2 model, microbatches": losses(num_partitions=2, fsdp=2, num_microbatches=2),
  }
  print(json.dumps(found))
