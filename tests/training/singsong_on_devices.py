"""Prints what a small SingSong does on several meshes of eight devices, as JSON."""

import dataclasses
import json
import os
import tempfile

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np

from singsong_jax.errors import InputError
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training.checkpoints import Checkpoints
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


def make_steps(partitioner, num_microbatches=1, **network):
  system = SingSong(network=dataclasses.replace(NETWORK, **network), geometry=Geometry(window_seconds=0.4))
  partitioner.check_axes(system.axis_sizes)
  optimizer = adafactor(rsqrt_decay(warmup_steps=1000), min_dim_size_to_factor=16)
  return system, Steps(system, optimizer, partitioner, seed=0, num_microbatches=num_microbatches)


def advance(system, steps, partitioner, state, numbers):
  found = []
  for number in numbers:
    state, sums = steps.train(state, partitioner.put_batch(make_batch(system, number)))
    found.append(mean(sums))
  return state, found


def mean(sums):
  total, weight = sums["loss"]
  return float(total / weight)


def losses(num_partitions=1, fsdp=1, num_microbatches=1, devices=8, **network):
  """Training losses of four steps, then an evaluation loss."""
  partitioner = Partitioner(num_partitions, fsdp, devices=jax.devices()[:devices])
  system, steps = make_steps(partitioner, num_microbatches, **network)
  state, found = advance(system, steps, partitioner, steps.init(), range(4))
  sums = steps.evaluate(state.params, partitioner.put_batch(make_batch(system, 9)))
  return [*found, mean(sums)]


class NoData:
  """Has no position."""

  def save(self, folder):
    pass

  def restore(self, folder):
    pass


def losses_from_mesh_to_mesh(meshes):
  """As `losses`, with a checkpoint after each training step and the next one on another mesh."""
  found = []
  with tempfile.TemporaryDirectory() as folder:
    for number, (num_partitions, fsdp) in enumerate(meshes):
      partitioner = Partitioner(num_partitions, fsdp)
      system, steps = make_steps(partitioner)
      with Checkpoints(folder, keep=1) as checkpoints:
        restored = checkpoints.restore_latest(steps.abstract_state, NoData(), lambda meta: None)
        state = restored.state if restored else steps.init()
        state, loss = advance(system, steps, partitioner, state, [number])
        checkpoints.save(number + 1, state, NoData(), {})
      found += loss
  return [*found, mean(steps.evaluate(state.params, partitioner.put_batch(make_batch(system, 9))))]


def share_of_a_device(**mesh):
  """Part of all matrices that lies on the first device."""
  arrays = [x for x in jax.tree.leaves(make_steps(Partitioner(**mesh))[1].init().params) if x.ndim > 1]
  return sum(x.addressable_data(0).nbytes for x in arrays) / sum(x.nbytes for x in arrays)


def refusal(function):
  try:
    function()
  except InputError as error:
    return str(error)


if __name__ == "__main__":
  found = {
    "one device": losses(devices=1),
    "one device, microbatches": losses(devices=1, num_microbatches=4),
    "8 data": losses(),
    "4 data × 2 model": losses(num_partitions=2),
    "2 data × 4 model, padded vocabulary": losses(num_partitions=4, vocab_multiple=8),
    "8 fsdp, layers scanned and recomputed": losses(fsdp=8, scan_layers=True, remat="minimal"),
    "2 data × 2 fsdp × 2 model, microbatches": losses(num_partitions=2, fsdp=2, num_microbatches=2),
    "8 data, then 4 × 2, 2 × 4, 8 fsdp": losses_from_mesh_to_mesh([(1, 1), (2, 1), (4, 1), (1, 8)]),
  }
  report = {
    "losses": found,
    "share": share_of_a_device(fsdp=8),
    "heads": refusal(lambda: make_steps(Partitioner(8))),
    "devices": refusal(lambda: Partitioner(3)),
  }
  print(json.dumps(report))
