"""The cells of gin/sweeps/*.toml, through the real run_train.sh and gin."""

import pathlib
import shutil
import subprocess
import warnings

import gin
import pytest

from singsong_jax import cli
from singsong_jax.sweeps.grid import ROOT, load_sweep

PRINTING = '#!/bin/sh\n[ "$2" = pip ] || printf "%s\\n" "$@"\n'


def composed(folder: pathlib.Path, arguments: tuple[str, ...]) -> list[str]:
  """What run_train.sh makes of a cell, from a copy of it in which printing takes the place of Python."""
  command = ["bash", str(folder / "run_train.sh"), "--hardware=cpu", *arguments]
  return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def checkout(tmp_path):
  for name in ("run_train.sh", "pyproject.toml", "constraints.txt"):
    shutil.copy(ROOT / name, tmp_path)
  shutil.copytree(ROOT / "gin", tmp_path / "gin")
  (tmp_path / ".venv/bin").mkdir(parents=True)
  (tmp_path / ".venv/bin/python").write_text(PRINTING)
  (tmp_path / ".venv/bin/python").chmod(0o755)
  stamp = subprocess.run(
    "cat pyproject.toml constraints.txt | cksum", shell=True, cwd=tmp_path, capture_output=True
  )
  (tmp_path / ".venv/installed").write_bytes(stamp.stdout)
  yield tmp_path
  gin.clear_config()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table1", "smoke"])
def test_gin_takes_every_cell(checkout, name):
  """TensorFlow is imported by what the gin files name."""
  for cell in load_sweep(str(ROOT / f"gin/sweeps/{name}.toml")).cells:
    arguments = composed(checkout, cell.arguments)
    files = [a.removeprefix("--gin_file=") for a in arguments if a.startswith("--gin_file=")]
    bindings = [a.removeprefix("--gin.").replace("=", " = ", 1) for a in arguments if a.startswith("--gin.")]
    assert len(files) == 9 and f"MODEL_DIR = '{cell.model_dir}'" in bindings
    gin.clear_config()
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      cli.parse_gin(files, bindings)  # raises where a file, parameter or macro does not exist
    text = gin.config_str()
    assert f"TRAIN_STEPS = {cell.total_steps}" in text
    assert ("'relative_bias'" in text) == ("position_scheme=relative_bias" in cell.name)
