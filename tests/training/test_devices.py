"""The real model gives the same losses whatever the devices and microbatches."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent


def losses(devices, partitions, microbatches):
  flags = f"--xla_force_host_platform_device_count={devices}"
  environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(HERE.parent.parent)}
  command = [sys.executable, str(HERE / "singsong_on_devices.py"), str(partitions), str(microbatches)]
  result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
  return json.loads(result.stdout)


@pytest.mark.slow
def test_eight_devices_and_microbatches_change_nothing():
  one = losses(1, 1, 1)
  assert one[3] < one[0]
  for setting in [(1, 1, 4), (8, 1, 1), (8, 2, 2)]:  # devices, model partitions, microbatches
    np.testing.assert_allclose(losses(*setting), one, rtol=1e-4, err_msg=str(setting))
