"""Predicted seconds against arithmetic by hand."""

import dataclasses

import pytest

from singsong_jax.training import accelerators, roofline
from singsong_jax.training.collectives import Collective

CHIP = accelerators.Accelerator(
  name="toy",
  device_kinds=("toy",),
  peak_flops=100.0,
  memory_bytes=1,
  memory_bandwidth=1.0,
  link_bandwidth=10.0,
  network_bandwidth=1.0,
)
INSIDE = Collective("all-gather", ("fsdp",), 1, 40, 30.0, 0.0)
ACROSS = Collective("all-reduce", ("data",), 1, 40, 30.0, 6.0)


def test_by_hand():
  prediction = roofline.predict(8000.0, 4, CHIP, [INSIDE], efficiency=0.5)
  assert prediction == roofline.Prediction(40.0, 3.0, 40.0, 43.0)
  again = roofline.predict(8000.0, 4, CHIP, [INSIDE], efficiency=0.5, recomputation=4 / 3)
  assert again.compute_seconds == pytest.approx(160 / 3)


def test_a_slow_network():
  """30 bytes over links at 10 a second, 6 of them over the network at 1 a second."""
  prediction = roofline.predict(800.0, 4, CHIP, [INSIDE, ACROSS], efficiency=1.0)
  assert prediction == roofline.Prediction(2.0, 9.0, 9.0, 11.0)


def test_an_unknown_network():
  chip = dataclasses.replace(CHIP, network_bandwidth=None)
  assert roofline.predict(800.0, 4, chip, [INSIDE], efficiency=1.0) is not None
  assert roofline.predict(800.0, 4, chip, [ACROSS], efficiency=1.0) is None
