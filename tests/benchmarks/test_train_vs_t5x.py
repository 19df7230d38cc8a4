"""benchmarks/train_vs_t5x.py: the command runs, and reports what it must."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import train_vs_t5x

ROOT = pathlib.Path(__file__).parents[2]


def test_ratios_are_of_medians():
  results = {"ours": {"seconds": [2.0, 90.0, 1.0]}, "t5x": {"seconds": [3.0, 5.0, 4.0]}}
  assert train_vs_t5x.summary(results) == {"ratio_vs_t5x": 2.0, "ratio_vs_t5x_with_our_network": None}


@pytest.mark.slow
def test_a_short_run_without_t5x(tmp_path, environment_without):
  output = tmp_path / "train.json"
  small = ["--rounds=2", "--target_seconds=0.08", "--batch=1", "--layers=1"]
  run = subprocess.run(
    [sys.executable, "-m", "benchmarks.train_vs_t5x", *small, f"--output={output}"],
    cwd=ROOT,
    env=environment_without("t5x"),
    capture_output=True,
    text=True,
    check=True,
  )
  assert json.loads(run.stdout.splitlines()[-1])["ratio_vs_t5x"] is None
  assert "not compared: upstream t5x is not importable" in run.stdout
  report = json.loads(output.read_text())
  assert report["results"].keys() == {"ours"} and len(report["results"]["ours"]["seconds"]) == 2
  assert report["setting"]["inputs"] == 250 and report["machine"]["cores"] >= 1
