"""benchmarks/gpu.sh: nothing may go wrong that a CPU can show."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

from benchmarks import gpu

ROOT = pathlib.Path(__file__).parents[2]
# Not on a machine that has jax, flax, optax and gin-config only.
MISSING = (
  "tensorflow",
  "seqio",
  "clu",
  "apache_beam",
  "librosa",
  "soundfile",
  "tqdm",
  "sklearn",
  "matplotlib",
)

# Answers rows as gpu_rows.py does, or dies, or is silent.
FAKE_WORKER = """
import json, os, sys, time
for line in sys.stdin:
  row = json.loads(line)
  if row["kind"] == "dies":
    os._exit(7)
  if row["kind"] == "hangs":
    time.sleep(60)
  print(json.dumps({"status": "ok", "process": os.getpid()}), flush=True)
"""


@pytest.fixture
def worker():
  with gpu.Worker([sys.executable, "-c", FAKE_WORKER]) as worker:
    yield worker


def test_one_process_measures_many_rows(worker):
  first, second = (worker.ask({"kind": "works"}, 30) for _ in range(2))
  assert first == second and first["status"] == "ok"


def test_a_row_that_dies_or_hangs_costs_no_other(worker):
  assert worker.ask({"kind": "dies"}, 30) == {
    "status": "failed",
    "reason": "the process died with status 7",
  }
  assert worker.ask({"kind": "works"}, 30)["status"] == "ok"
  assert worker.ask({"kind": "hangs"}, 0.2) == {"status": "failed", "reason": "not done after 0 s"}
  assert worker.ask({"kind": "works"}, 30)["status"] == "ok"


def test_rows_are_skipped_when_the_time_is_over(worker):
  skipped = gpu.measure(worker, {"kind": "hangs"}, deadline=time.monotonic() - 1)
  assert skipped["status"] == "skipped"


def test_the_smoke_rows_take_every_path():
  rows = gpu.smoke_rows().values()
  values = lambda setting, rows: {row[setting] for row in rows if setting in row}
  for setting in ("kind", "features", "remat", "implementation"):
    assert values(setting, rows) == values(setting, gpu.ROWS.values())
  assert {row.get("microbatches") for row in rows} == {None, 1, 2}
  assert gpu.smoke_rows().keys() >= {name for name in gpu.ROWS if name.startswith("fine")}


def test_summary_and_table(capsys):
  rows = [
    {"name": "decode base, batch 1", "status": "ok", "real_time_factor": 0.09, "seconds": 0.9},
    {"name": "fine base, 10 s", "status": "ok", "real_time_factor": 0.04},
    {"name": "train base S-SA, batch 64", "status": "ok", "model_flops_utilisation": 0.41},
    {"name": "train base S-SA, batch 128", "status": "ok", "model_flops_utilisation": 0.47},
    {"name": "train xl S-SA, batch 16", "status": "failed", "reason": "out of memory: …"},
  ]
  summary = gpu.summary(rows)
  assert summary["real_time_factor_with_fine_b1"] == pytest.approx(0.13)
  assert summary["mfu_base"] == 0.47
  assert summary["mfu_xl"] is None and summary["audio_seconds_per_second_b64"] is None
  gpu.print_table({"machine": {"device": "a GPU", "versions": {"jax": "1"}}, "rows": rows})
  table = capsys.readouterr().out
  assert "47.0%" in table
  assert "train xl S-SA, batch 16: failed: out of memory" in table


@pytest.mark.slow
def test_smoke_without_the_heavy_libraries(tmp_path, environment_without):
  output = tmp_path / "gpu.json"
  run = subprocess.run(
    ["bash", "benchmarks/gpu.sh", "--smoke", f"--output={output}"],
    cwd=ROOT,
    env=environment_without(*MISSING) | {"PYTHON": sys.executable},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stdout + run.stderr
  report = json.loads(output.read_text())
  assert {row["name"] for row in report["rows"]} == gpu.smoke_rows().keys()
  assert json.loads(run.stdout.splitlines()[-1]) == report["summary"]
  assert report["summary"]["real_time_factor_with_fine_b1"] > 0
  for row in report["rows"]:
    if row.get("implementation") == "cudnn":
      assert row["status"] == "failed" and "cuDNN" in row["reason"]
    else:
      assert row["status"] == "ok" and row["seconds"] > 0 and row["compile_seconds"] > 0


@pytest.mark.slow
def test_a_failing_row_has_a_reason():
  code = """
from benchmarks import gpu_rows
wrong = gpu_rows.measure({"kind": "decode", "size": "huge", "batch": 1, "window_seconds": 10.0})
assert wrong["status"] == "failed" and "huge.gin" in wrong["reason"], wrong
def out_of_memory(): raise MemoryError("RESOURCE_EXHAUSTED: " + 1000 * "x")
gpu_rows.KINDS["decode"] = out_of_memory
full = gpu_rows.measure({"kind": "decode"})
assert full["reason"].startswith("out of memory: ") and len(full["reason"]) == 300, full
"""
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
