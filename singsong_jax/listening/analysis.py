"""What the answers say: who wins against whom, how often, and whether by chance (SingSong §5.2, App. B).

Listeners may say that both are about the same; the paper's had to choose. Such a draw is half a win for each
in all counts and percentages, so that they add up to the answers; tests leave it out. Tests take answers for
independent of each other, though a rater gives many.
"""

import csv
import dataclasses
import itertools
import math
import pathlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.evaluation.significance import binomial, holm, wilcoxon
from singsong_jax.listening.store import Row, Store
from singsong_jax.listening.trials import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
  """One answer.

  Attributes:
    rater: pseudonym.
    system_a, system_b: what was compared.
    preference: −2 (B much better) to 2 (A much better).
    check_passed: None where it was no attention check.
    headphones_passed: None where the rater did not finish that check.
  """

  rater: str
  system_a: str
  system_b: str
  preference: int
  check_passed: bool | None = None
  headphones_passed: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
  """Two systems against each other.

  Attributes:
    answers: how many, draws among them.
    wins_a, draws, wins_b: counts that add up to `answers`.
    percent_a: of answers that A won, draws as halves.
    mean_preference: −2 to 2, positive for A.
    wilcoxon, wilcoxon_holm: two-sided p of the graded answers, and corrected for the number of pairs. 1 where
      all are draws.
    binomial, binomial_holm: the same of the decided votes.
  """

  system_a: str
  system_b: str
  answers: int
  wins_a: int
  draws: int
  wins_b: int
  percent_a: float
  mean_preference: float
  wilcoxon: float
  wilcoxon_holm: float
  binomial: float
  binomial_holm: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
  """One system against all others: how often it was compared, and won (draws as halves).

  `wins_deviation` is the standard deviation of the estimated proportion, √(p (1 − p) / n), times n.
  """

  name: str
  answers: int
  wins: float
  wins_deviation: float
  percent: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
  """Of a whole study.

  Attributes:
    raters, answers: that were counted.
    raters_failing_checks: who failed an attention check; `excluded` says whether their answers were left out.
    raters_passing_headphones: among those counted.
    systems: by descending percentage.
    pairs: in the order of `systems`.
  """

  raters: int
  answers: int
  raters_failing_checks: int
  excluded: bool
  raters_passing_headphones: int
  systems: tuple[System, ...]
  pairs: tuple[Pair, ...]

  def percent(self, row: str, column: str) -> float | None:
    """How often `row` won against `column`; None where they were never compared."""
    for pair in self.pairs:
      if (pair.system_a, pair.system_b) == (row, column):
        return pair.percent_a
      if (pair.system_b, pair.system_a) == (row, column):
        return 100 - pair.percent_a
    return None


def analyse(answers: Sequence[Answer], exclude_failed_checks: bool = False) -> Results:
  """Counts and tests the answers that are no checks.

  Args:
    exclude_failed_checks: leaves out all answers of raters who failed one attention check or more.

  Raises:
    InputError: no answers are left.
  """
  failed = {answer.rater for answer in answers if answer.check_passed is False}
  counted = [answer for answer in answers if answer.check_passed is None]
  if exclude_failed_checks:
    counted = [answer for answer in counted if answer.rater not in failed]
  if not counted:
    left_out = f" once {len(failed)} raters who failed checks are excluded" if exclude_failed_checks else ""
    raise InputError(f"there are no answers to analyse{left_out}")
  systems = _systems(counted)
  headphones = {answer.rater for answer in counted if answer.headphones_passed}
  return Results(
    raters=len({answer.rater for answer in counted}),
    answers=len(counted),
    raters_failing_checks=len(failed),
    excluded=exclude_failed_checks,
    raters_passing_headphones=len(headphones),
    systems=systems,
    pairs=_pairs(counted, [system.name for system in systems]),
  )


def _systems(answers: Sequence[Answer]) -> tuple[System, ...]:
  found = []
  for name in dict.fromkeys(name for answer in answers for name in (answer.system_a, answer.system_b)):
    own = [_for(name, answer) for answer in answers if name in (answer.system_a, answer.system_b)]
    share = float(np.mean(np.sign(own) + 1) / 2)
    found.append(
      System(
        name=name,
        answers=len(own),
        wins=share * len(own),
        wins_deviation=math.sqrt(share * (1 - share) * len(own)),
        percent=100 * share,
      )
    )
  return tuple(sorted(found, key=lambda system: (-system.percent, system.name)))


def _pairs(answers: Sequence[Answer], names: Sequence[str]) -> tuple[Pair, ...]:
  found = {}
  for one, other in itertools.combinations(names, 2):
    graded = [_for(one, answer) for answer in answers if {answer.system_a, answer.system_b} == {one, other}]
    if graded:
      found[one, other] = graded
  decided = {pair: [grade for grade in graded if grade] for pair, graded in found.items()}
  tests = {
    "wilcoxon": {pair: wilcoxon(grades) if grades else 1.0 for pair, grades in decided.items()},
    "binomial": {
      pair: binomial(sum(grade > 0 for grade in grades), len(grades)) if grades else 1.0
      for pair, grades in decided.items()
    },
  }
  tests |= {f"{test}_holm": holm(p_values) for test, p_values in tests.items()}
  return tuple(
    Pair(
      system_a=one,
      system_b=other,
      answers=len(graded),
      wins_a=sum(grade > 0 for grade in graded),
      draws=sum(grade == 0 for grade in graded),
      wins_b=sum(grade < 0 for grade in graded),
      percent_a=float(50 * np.mean(np.sign(graded) + 1)),
      mean_preference=float(np.mean(graded)),
      **{test: p_values[one, other] for test, p_values in tests.items()},
    )
    for (one, other), graded in found.items()
  )


def _for(name: str, answer: Answer) -> int:
  """The grade from this system's side."""
  return answer.preference if name == answer.system_a else -answer.preference


def to_csv(rows: Sequence[Row]) -> str:
  """Rows of `Store.export` as CSV; the names of the columns alone where there are none."""
  return files.to_csv(Row.__annotations__, (row.values() for row in rows))


def read_answers(place: pathlib.Path) -> list[Answer]:
  """Of a study's folder, or of the CSV that was exported from it. Raises InputError where it is neither."""
  return to_answers(stored(place), str(place)) if place.is_dir() else read_csv(place)


def stored(folder: pathlib.Path) -> list[Row]:
  """Rows of `Store.export` of a study's folder. Raises InputError where it has none that can be read."""
  store = Store(folder, Study.read(folder), make=False)
  try:
    return store.export()
  except sqlite3.Error as error:
    raise InputError(f"cannot read the answers in {folder}: {error}") from error
  finally:
    store.close()


def read_csv(path: pathlib.Path) -> list[Answer]:
  """Answers as `export` wrote them. Raises InputError naming the line that is none."""
  try:
    with open(path, newline="", encoding="utf-8") as file:
      return to_answers(list(csv.DictReader(file)), str(path))
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise InputError(f"cannot read {path}: {error}") from error


def to_answers(rows: Sequence[Mapping[str, Any]], where: str) -> list[Answer]:
  """Rows of `Store.export`, or of its CSV. Raises InputError naming the one that is none."""
  found = []
  for number, row in enumerate(rows, start=2):  # as lines of the CSV are counted
    try:
      if row["system_a"] == row["system_b"] or int(row["preference"]) not in range(-2, 3):
        raise ValueError("a preference from -2 to 2 between two systems is needed")
      answer = Answer(
        rater=row["rater"],
        system_a=row["system_a"],
        system_b=row["system_b"],
        preference=int(row["preference"]),
        check_passed=_flag(row["check_passed"]),
        headphones_passed=_flag(row["headphones_passed"]),
      )
    except (KeyError, TypeError, ValueError) as error:
      raise InputError(f"{where}, line {number} is no answer as `export` writes them: {error}") from error
    found.append(answer)
  return found


def _flag(value: Any) -> bool | None:
  return None if value in (None, "") else bool(int(value))
