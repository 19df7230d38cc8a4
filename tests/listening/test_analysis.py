"""The analysis against the paper's own numbers, and the command from `make` to pictures."""

import csv
import json
import subprocess
import sys

import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation.significance import binomial, wilcoxon
from singsong_jax.listening import report
from singsong_jax.listening.analysis import Answer, analyse, read_csv, stored, to_csv
from singsong_jax.listening.store import Listened, Store

PAPER = {  # Figure 4: % of 200 votes that the row won
  "Ground truth": {"XL": 66, "Base": 68, "Retrieval": 72, "Random": 74},
  "XL": {"Base": 56, "Retrieval": 66, "Random": 74},
  "Base": {"Retrieval": 55, "Random": 65},
  "Retrieval": {"Random": 64},
}
ANY_OTHER = {"Ground truth": 70, "XL": 57, "Base": 49, "Retrieval": 42, "Random": 31}


def paper_answers():
  return [
    Answer(rater=f"r{vote}", system_a=one, system_b=other, preference=1 if vote < 2 * percent else -1)
    for one, row in PAPER.items()
    for other, percent in row.items()
    for vote in range(200)
  ]


def test_figure_4():
  results = analyse(paper_answers())
  assert [system.name for system in results.systems] == list(ANY_OTHER)
  for one, row in PAPER.items():
    for other, percent in row.items():
      assert results.percent(one, other) == pytest.approx(percent)
      assert results.percent(other, one) == pytest.approx(100 - percent)
  for system in results.systems:
    # The paper's columns are rounded: its 57 and 42 are 57.5 and 42.75 of these
    assert system.percent == pytest.approx(ANY_OTHER[system.name], abs=0.76) and system.answers == 800
  assert results.percent("XL", "XL") is None
  assert (results.answers, results.raters) == (2000, 200)


def test_figure_6():
  results = analyse(paper_answers())
  truth = results.systems[0]
  assert truth.wins == pytest.approx(560)
  assert truth.wins_deviation == pytest.approx(800 * (0.7 * 0.3 / 800) ** 0.5)
  assert sum(system.wins for system in results.systems) == pytest.approx(2000)


def test_significance_of_votes():
  """55 % and 56 % of 200 votes are not significant by votes alone: docs/evaluation.md."""
  pairs = {(pair.system_a, pair.system_b): pair for pair in analyse(paper_answers()).pairs}
  assert pairs["Base", "Retrieval"].wilcoxon == pytest.approx(0.157, abs=5e-4)
  assert pairs["XL", "Base"].wilcoxon == pytest.approx(0.0897, abs=5e-4)
  assert pairs["XL", "Retrieval"].wilcoxon == pytest.approx(6.0e-6, rel=0.02)
  assert pairs["XL", "Base"].binomial == binomial(112, 200)
  assert pairs["XL", "Base"].wilcoxon_holm == pytest.approx(2 * pairs["XL", "Base"].wilcoxon)
  assert all(pair.binomial <= pair.binomial_holm <= 1 for pair in pairs.values())


def graded(grades, rater="r", **more):
  return [Answer(rater=rater, system_a="a", system_b="b", preference=grade, **more) for grade in grades]


def test_grades_and_draws():
  grades = [2, 2, 1, 0, 0, -1, 2, 1]
  (pair,) = analyse(graded(grades)).pairs
  assert (pair.wins_a, pair.draws, pair.wins_b, pair.answers) == (5, 2, 1, 8)
  assert pair.percent_a == pytest.approx(75) and pair.mean_preference == pytest.approx(7 / 8)
  assert pair.wilcoxon == wilcoxon(grades) and pair.binomial == binomial(5, 6)
  results = analyse(graded(grades) + graded([0]))
  assert [system.wins for system in results.systems] == [6.5, 2.5]


def test_draws_alone_and_pairs_never_compared():
  answers = [*graded([0, 0]), Answer(rater="r", system_a="c", system_b="a", preference=2)]
  results = analyse(answers)
  pairs = {frozenset((pair.system_a, pair.system_b)): pair for pair in results.pairs}
  assert len(pairs) == 2
  assert (pairs[frozenset("ab")].wilcoxon, pairs[frozenset("ab")].binomial) == (1.0, 1.0)
  assert results.percent("b", "c") is None
  assert "| c | 100 | " in report.markdown(results)


def test_failed_checks():
  def check(rater, passed):
    return Answer(rater=rater, system_a="a", system_b="noise", preference=1, check_passed=passed)

  answers = graded([1, 1], "good", headphones_passed=True) + graded([-2, -2], "bad", headphones_passed=False)
  answers += [check("good", True), check("bad", True), check("bad", False)]
  counted, left_out = analyse(answers), analyse(answers, exclude_failed_checks=True)
  assert (counted.answers, counted.raters, counted.raters_failing_checks, counted.excluded) == (
    4,
    2,
    1,
    False,
  )
  assert (left_out.answers, left_out.raters, left_out.raters_failing_checks) == (2, 1, 1)
  assert counted.raters_passing_headphones == 1
  assert {system.name for system in counted.systems} == {"a", "b"}
  assert left_out.percent("a", "b") == 100
  with pytest.raises(InputError, match="no answers to analyse once 1 raters"):
    analyse(answers[2:], exclude_failed_checks=True)
  with pytest.raises(InputError, match="no answers"):
    analyse([])


def test_csv_that_is_none(tmp_path, make):
  folder, study = make()
  store = Store(folder, study)
  rater = store.rater(store.add_rater())
  store.answer(rater, store.next_trial(rater)[1].id, 1, Listened(1, 1, 1))
  text = to_csv(store.export())
  store.close()
  path = tmp_path / "answers.csv"
  path.write_text(text)
  assert len(read_csv(path)) == 1
  header, row = text.splitlines()
  fields = row.split(",")
  fields[header.split(",").index("preference")] = "7"
  for wrong in (",".join(fields), fields[0], "x"):
    path.write_text(f"{header}\n{wrong}\n")
    with pytest.raises(InputError, match="line 2 is no answer"):
      read_csv(path)
  path.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(InputError, match="cannot read"):
    read_csv(path)
  with pytest.raises(InputError, match="cannot read"):
    read_csv(tmp_path / "none.csv")


def test_names_are_not_markup(tmp_path):
  answers = [Answer(rater="r", system_a="$a_b|c$", system_b="b", preference=1)]
  paths = report.write(analyse(answers), tmp_path)
  assert "$a_b\\|c$" in paths[2].read_text()


def test_nothing_exported_still_names_its_columns(make):
  folder, study = make()
  store = Store(folder, study)
  none = to_csv(store.export())
  rater = store.rater(store.add_rater())
  store.answer(rater, store.next_trial(rater)[1].id, 1, Listened(1, 1, 1))
  one = to_csv(store.export())
  store.close()
  assert none.count("\n") == 1 and one.startswith(none)
  assert list(csv.DictReader(one.splitlines())) == [
    {name: "" if value is None else str(value) for name, value in row.items()} for row in stored(folder)
  ]


def run(*arguments):
  command = [sys.executable, "-m", "singsong_jax.study", *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_commands(folders, tmp_path):
  study = tmp_path / "study"
  made = run(
    *("make", study, f"--vocals={folders}/vocals", f"--instrumentals=truth={folders}/truth"),
    *(f"--instrumentals=ours={folders}/ours", "--trials_per_rater=6", "--trials_per_pair=12"),
  )
  assert made.returncode == 0 and "12 trials of 2 systems and 6 clips" in made.stdout, made.stderr
  again = run("make", study, f"--vocals={folders}/vocals", f"--instrumentals=a={folders}/truth")
  assert again.returncode == 2 and again.stderr.startswith("error: ") and again.stderr.count("\n") == 1
  answer_everything(study)
  exported = run("export", study, f"--output={tmp_path}/answers.csv")
  assert exported.returncode == 0 and "32 answers" in exported.stdout
  for place, output in ((study, "from_folder"), (tmp_path / "answers.csv", "from_csv")):
    done = run("analyse", place, f"--output_dir={tmp_path / output}", "--exclude_failed_checks")
    assert done.returncode == 0 and "24 answers of 4 raters" in done.stdout, done.stderr
    assert (tmp_path / output / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / output / "wins.png").read_bytes().startswith(b"\x89PNG")
  other = run("analyse", study, f"--output_dir={tmp_path}/from_csv")
  assert other.returncode == 2 and "results of another run (answers differ)" in other.stderr
  results = [(tmp_path / name / "results.json").read_text() for name in ("from_folder", "from_csv")]
  assert results[0] == results[1]
  assert json.loads(results[0])["systems"][0]["name"] == "truth"
  with open(tmp_path / "from_csv" / "results.csv") as file:
    assert next(csv.DictReader(file))["wins_a"] == "24"


@pytest.mark.slow
def test_an_export_of_nothing(make, tmp_path):
  folder, study = make()
  path = tmp_path / "answers.csv"
  export = ("export", folder, f"--output={path}")
  for command in (export, ("analyse", folder, f"--output_dir={tmp_path}")):
    done = run(*command)
    assert done.returncode == 2 and "answers.sqlite: nobody was asked yet" in done.stderr
  Store(folder, study).close()
  done = run(*export)
  assert done.returncode == 0 and "0 answers" in done.stdout and "only the names" in done.stdout
  assert path.read_text().startswith("rater,position,kind,")
  path.write_text("kept")
  done = run(*export)
  assert done.returncode == 2 and f"--output={path} is left as it is" in done.stderr
  assert path.read_text() == "kept"


def answer_everything(folder):
  """Four raters who always prefer the truth, even to noise."""
  from singsong_jax.listening.trials import Study

  study = Study.read(folder)
  store = Store(folder, study)
  for _ in range(4):
    rater = store.rater(store.add_rater())
    while due := store.next_trial(rater):
      store.answer(rater, due[1].id, -1 if due[1].left == "truth" else 2, Listened(1, 1, 1))
  store.close()


@pytest.mark.slow
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["mak", "x"], "no command 'mak': there are make, serve, export, analyse; did you mean make?"),
    (["make", "x"], "--vocals is missing"),
    (["serve", "/nothing"], "cannot read /nothing/study.json"),
    (["export", "/nothing"], "--output is missing"),
    (["analyse", "/nothing.csv", "--output_dir=x"], "cannot read /nothing.csv"),
    (["serve"], "an argument is missing"),
  ],
)
def test_wrong_commands(arguments, message, tmp_path):
  done = run(*arguments)
  assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_port_that_is_taken(make, serve):
  folder, _ = make()
  server = serve(folder)
  done = run("serve", folder, f"--port={server.port}")
  assert done.returncode == 2 and f"--port={server.port}" in done.stderr


@pytest.mark.slow
def test_serving_without_the_extra(make):
  folder, _ = make()
  code = "import runpy, sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None; "
  code += "runpy.run_module('singsong_jax.study', run_name='__main__', alter_sys=True)"
  command = [sys.executable, "-c", code, "serve", str(folder)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 2 and "pip install 'singsong_jax[study]'" in done.stderr, done.stderr
