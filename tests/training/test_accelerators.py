"""Data sheets are found by jax's names of devices."""

import pytest

from singsong_jax.training import accelerators


@pytest.mark.parametrize("kind,name,peak_flops", [
  ("NVIDIA H200", "h200", 989e12),
  ("TPU v5 lite", "v5e", 197e12),
  ("TPU v5", "v5p", 459e12),  # not a prefix: v5e's name begins with it
])  # fmt: skip
def test_peaks_are_known_by_device_kind(kind, name, peak_flops):
  accelerator = accelerators.find(kind)
  assert (accelerator.name, accelerator.peak_flops) == (name, peak_flops)


def test_a_device_without_a_data_sheet():
  assert accelerators.find("cpu") is None
  assert accelerators.find("NVIDIA H200 MIG 1g.18gb") is None  # a part of one


def test_names_and_kinds_are_of_one_accelerator_each():
  names = [a.name for a in accelerators.ACCELERATORS]
  kinds = [kind for a in accelerators.ACCELERATORS for kind in a.device_kinds]
  assert len(set(names)) == len(names) and len(set(kinds)) == len(kinds)
