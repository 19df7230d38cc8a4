"""The real model gives the same losses whatever the mesh, the microbatches and the way it is computed."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.slow
def test_eight_devices_and_microbatches_change_nothing():
  command = [sys.executable, str(HERE / "singsong_on_devices.py")]
  environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
  result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
  losses = json.loads(result.stdout)
  one = losses.pop("one device")
  assert one[3] < one[0]
  for setting, found in losses.items():
    np.testing.assert_allclose(found, one, rtol=1e-4, err_msg=setting)
