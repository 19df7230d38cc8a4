"""What the tests of the benchmarks share."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def environment_without(tmp_path):
  """`f(*modules)`: environment variables for a Python process, and those it starts, that lacks `modules`."""

  def make(*modules: str) -> dict[str, str]:
    lines = ["import sys", f"for name in {modules!r}: sys.modules[name] = None"]
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    tried = subprocess.run(
      [sys.executable, "-c", f"import {modules[0]}"], env=environment, capture_output=True, text=True
    )
    assert "ModuleNotFoundError" in tried.stderr
    return environment

  return make
