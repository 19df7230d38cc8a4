import json
import subprocess
import sys

import pytest

from singsong_jax.errors import InputError
from singsong_jax.sweeps import report, status
from singsong_jax.sweeps.grid import Cell


@pytest.fixture
def cells(tmp_path):
  return [Cell(f"features={name}", tmp_path / name, (), 100) for name in ("sa_sa", "s_sa")]


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def evaluated(cell, isolated, separated, embedding="VGGish", **run):
  rows = [
    {"system": name, "frechet": fad, "nll": nll, "embedding": embedding, "clips": 778}
    for name, fad, nll in (("isolated", isolated, 3.92), ("separated", separated, 3.89))
  ]
  write(cell.model_dir / "evaluation/results.json", {"rows": rows})
  write(cell.model_dir / "evaluation/run.json", {"model": {"step": 18_000}, **run})


def trained(cell):
  records = [
    {"step": 10, "loss": 5.0},
    {"step": 20, "loss": 4.0, "fad_isolated": 3.0, "fad_separated": 2.0, "nll_isolated": 4.1},
    {"step": 40, "loss": 3.0, "fad_isolated": 2.0, "fad_separated": 1.5, "nll_isolated": 4.0},
  ]
  write(cell.model_dir / "metrics/eval.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def test_the_papers_line_for_noisy_sa_sa(cells):
  evaluated(cells[0], 2.01, 1.64)
  row = report.row_of(cells[0])
  assert row.fad_gap == pytest.approx(0.37)
  assert "| features=sa_sa | 18,000 | 2.01 | 1.64 | 0.37 | 3.92 | 3.89 | 778 | VGGish |" in report.markdown(
    [row]
  )


def test_what_is_not_there_stays_blank(cells, tmp_path):
  trained(cells[1])
  rows = [*map(report.row_of, cells)]
  text = report.markdown(rows)
  assert "| features=sa_sa |  |  |  |  |  |  |  |  |" in text
  assert "0 of 2 cells have been evaluated" in text
  assert [record["step"] for record in rows[1].curve] == [20, 40]
  paths = report.write(rows, tmp_path / "out")
  assert [path.name for path in paths] == [
    "table.md",
    "table.csv",
    "table.json",
    "figure_3.png",
    "figure_5.png",
  ]
  assert all(path.stat().st_size for path in paths)


def test_figures_4_and_6_come_from_a_study(tmp_path):
  (tmp_path / "sweep.toml").write_text(
    'model_dir = "runs"\ndata_dir = "data"\n[fixed]\ntotal_steps = 4\n[axes]\nvocals = ["noisy"]\n'
  )
  answers = "rater,system_a,system_b,preference,check_passed,headphones_passed\n" + "x,ours,random,1,,1\n" * 3
  (tmp_path / "answers.csv").write_text(answers)
  command = [sys.executable, "-m", "singsong_jax.sweep", str(tmp_path / "sweep.toml")]
  command += [f"--report={tmp_path}/out", f"--study={tmp_path}/answers.csv"]
  subprocess.run(command, check=True, capture_output=True)
  results = json.loads((tmp_path / "out/study/results.json").read_text())
  assert results["systems"][0]["name"] == "ours" and results["systems"][0]["wins"] == 3
  assert (tmp_path / "out/study/matrix.png").stat().st_size and (
    tmp_path / "out/study/wins.png"
  ).stat().st_size


def test_isolated_vocals_alone_have_no_gap(cells):
  """As `evaluate --instrumentals` writes, which knows no model."""
  write(
    cells[0].model_dir / "evaluation/run.json", {"digest": "of songs", "seed": 0, "sets": {"isolated": "x"}}
  )
  write(
    cells[0].model_dir / "evaluation/results.json",
    {"rows": [{"system": "isolated", "frechet": 1.5, "embedding": "VGGish"}]},
  )
  row = report.row_of(cells[0])
  assert (row.fad_isolated, row.fad_separated, row.fad_gap, row.steps) == (1.5, None, None, None)


@pytest.mark.parametrize(
  ("other", "differing"),
  [
    ({"embedding": "log-mel statistics"}, "embedding"),
    ({"digest": "of other songs"}, "songs"),
    ({"separator": {"name": "repet"}, "seed": 1}, "separator, seed"),
  ],
)
def test_what_was_not_measured_alike_is_not_to_be_compared(cells, other, differing):
  evaluated(cells[0], 2.01, 1.64, digest="of songs", separator={"name": "mdx"}, seed=0)
  evaluated(cells[1], 1.36, 1.17, **{"digest": "of songs", "separator": {"name": "mdx"}, "seed": 0, **other})
  assert f"({differing} differ): do not compare" in report.markdown([*map(report.row_of, cells)])
  evaluated(cells[1], 1.36, 1.17, digest="of songs", separator={"name": "mdx"}, seed=0)
  assert "do not compare" not in report.markdown([*map(report.row_of, cells)])


def test_damaged_results_are_named(cells):
  write(cells[0].model_dir / "evaluation/results.json", {"rows": [{"name": "x"}]})
  with pytest.raises(InputError, match="evaluation: this is not what"):
    report.row_of(cells[0])


def test_a_run_that_ended_early_is_done(cells):
  write(cells[0].model_dir / "checkpoints/40/x", "")
  assert not status.is_done(cells[0])
  write(cells[0].model_dir / status.ENDED_EARLY, "FADi has not fallen")
  assert status.status_of(cells[0]).state == "done"
