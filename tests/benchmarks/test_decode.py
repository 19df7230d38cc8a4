"""benchmarks/decode.py: the command runs, and reports what it must."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import decode

ROOT = pathlib.Path(__file__).parents[2]
RATIOS = {"ratio_vs_t5x_b1", "ratio_vs_hf_b1", "ratio_vs_plain_b1", "growth_2250_vs_1125"}


def timed(contender, tokens, *seconds, batch=1):
  return decode.Timed("4+4", batch, tokens, contender, first_seconds=9.0, seconds=list(seconds))


def test_ratios_are_of_medians_at_batch_1():
  measured = [
    timed("ours", 2250, 2.0, 50.0, 1.0),
    timed("t5x", 2250, 8.0, 8.0, 80.0),
    timed("plain", 2250, 3.0),
    timed("ours", 1125, 1.0),
    timed("t5x", 2250, 7.0, batch=8),
  ]
  ratios = decode.summary(measured)
  assert ratios["ratio_vs_t5x_b1"] == 4.0
  assert ratios["ratio_vs_plain_b1"] == 1.5
  assert ratios["ratio_vs_hf_b1"] is None
  assert ratios["growth_2250_vs_1125"] == 2.0
  assert measured[4].tokens_per_second == pytest.approx(8 * 2250 / 7)


def test_wrong_number_of_ids_is_noticed():
  with pytest.raises(AssertionError, match="instead of"):
    decode.time_run(lambda seed: decode.np.zeros((1, 3)), 0, (1, 4))


@pytest.mark.slow
def test_quick_with_few_tokens(tmp_path, environment_without):
  """Without the other libraries: their ratios are null and it is said how to get them."""
  output = tmp_path / "decode.json"
  command = [sys.executable, "-m", "benchmarks.decode", "--quick", "--window_seconds=0.4"]
  run = subprocess.run(
    [*command, f"--output={output}"],
    cwd=ROOT,
    env=environment_without("t5x", "torch", "transformers"),
    capture_output=True,
    text=True,
    check=True,
  )
  ratios = json.loads(run.stdout.splitlines()[-1])
  assert ratios.keys() >= RATIOS
  assert ratios["ratio_vs_t5x_b1"] is None and ratios["ratio_vs_hf_b1"] is None
  assert ratios["ratio_vs_plain_b1"] > 0 and ratios["growth_2250_vs_1125"] > 0
  assert "PYTHONPATH" in run.stdout and ".[torch]" in run.stdout
  report = json.loads(output.read_text())
  assert report["summary"] == ratios
  assert report["machine"]["processor"] and report["machine"]["cores"] >= 1
  sizes = {(r["contender"], r["batch"], r["tokens"]) for r in report["results"]}
  assert sizes == {("ours", 1, 90), ("ours", 1, 45), ("plain", 1, 90), ("ours", 8, 18), ("plain", 8, 18)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5x", "t5x_without_bias", "hugging_face"])
def test_the_other_libraries_make_as_many_ids(name):
  """Where they are installed; in a process of its own, since their imports warn and change settings."""
  code = f"""
import sys
from benchmarks import decode_contenders as contenders
from benchmarks.decode import Geometry, SingSong, network, np
system = SingSong(network=network("4+4"), geometry=Geometry(window_seconds=0.08))
try:
  run = contenders.CONTENDERS[{name!r}](system, None, np.full((2, 2), 7, np.int32))
except contenders.Absent as error:
  sys.exit(str(error))
first, again, other = (np.asarray(run(seed)) for seed in (0, 0, 1))
assert first.shape == (2, 18), first.shape
assert (first == again).all() and (first != other).any()
"""
  run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  if "not importable" in run.stderr:
    pytest.skip(run.stderr.strip().splitlines()[-1])
  assert run.returncode == 0, run.stderr
