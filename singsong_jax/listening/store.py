"""Raters and their answers in SQLite: one transaction each, so that a server can be killed at any time.

A rater is known by a token that only the rater's browser has: its hash is stored, and a name drawn at random.
No addresses and no names of people are.
"""

import collections
import contextlib
import dataclasses
import enum
import hashlib
import pathlib
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

from singsong_jax.errors import InputError
from singsong_jax.listening import tones
from singsong_jax.listening.trials import Study, Trial

OPEN_SECONDS = 3600.0  # a trial given out counts as answered for so long; then the rater has left

_SCHEMA = """
CREATE TABLE IF NOT EXISTS raters (
  name TEXT PRIMARY KEY,
  token_hash TEXT NOT NULL UNIQUE,
  began REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tones (
  rater TEXT NOT NULL REFERENCES raters,
  trial TEXT NOT NULL,
  choice INTEGER NOT NULL,
  answered REAL NOT NULL,
  UNIQUE (rater, trial)
) STRICT;
CREATE TABLE IF NOT EXISTS answers (
  rater TEXT NOT NULL REFERENCES raters,
  position INTEGER NOT NULL,
  trial TEXT NOT NULL,
  assigned REAL NOT NULL,
  answer INTEGER,
  listened_vocals REAL,
  listened_left REAL,
  listened_right REAL,
  answered REAL,
  UNIQUE (rater, trial),
  UNIQUE (rater, position)
) STRICT;
"""


class Outcome(enum.Enum):
  """What became of an answer."""

  SAVED = "saved"
  REPEATED = "repeated"  # the same one was there already
  CONFLICT = "conflict"  # another one was there already
  UNKNOWN = "unknown"  # this rater was never asked that


@dataclasses.dataclass(frozen=True)
class Listened:
  """Seconds of each sound that were played."""

  vocals: float
  left: float
  right: float


class Store:
  """The answers to one study, in `answers.sqlite` of its folder. Safe to use from several threads.

  Args:
    clock: seconds since 1970.
  """

  def __init__(self, folder: pathlib.Path, study: Study, clock: Callable[[], float] = time.time):
    self._study, self._clock, self._lock = study, clock, threading.Lock()
    self._trials = {trial.id: trial for trial in (*study.trials, *study.checks)}
    path = folder / "answers.sqlite"
    try:
      # autocommit: transactions begin and end in _transaction
      self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
      self._database.row_factory = sqlite3.Row
      self._database.execute("PRAGMA journal_mode = WAL")
      # Some builds have a default that may lose the last answers to a power cut.
      self._database.execute("PRAGMA synchronous = FULL")
      self._database.execute("PRAGMA foreign_keys = ON")
      self._database.executescript(_SCHEMA)
      asked = {row["trial"] for row in self._database.execute("SELECT DISTINCT trial FROM answers")}
    except sqlite3.Error as error:
      raise InputError(f"cannot use {path}: {error}") from error
    if not asked <= self._trials.keys():
      self.close()
      raise InputError(f"{path} has answers to trials that study.json lacks: they are not of one study")

  def close(self) -> None:
    self._database.close()

  def add_rater(self) -> str:
    """Returns the token of a new rater, 43 random characters."""
    token = secrets.token_urlsafe(32)
    with self._transaction() as database:
      database.execute(
        "INSERT INTO raters VALUES (?, ?, ?)", (secrets.token_hex(8), _hash(token), self._clock())
      )
    return token

  def rater(self, token: str) -> str | None:
    """The name of the rater with this token."""
    with self._transaction() as database:
      row = database.execute("SELECT name FROM raters WHERE token_hash = ?", (_hash(token),)).fetchone()
    return row and row["name"]

  def tones_answered(self, rater: str) -> tuple[int, int]:
    """Trials of the headphone check: how many this rater has answered, and how many of them rightly."""
    with self._transaction() as database:
      rows = database.execute("SELECT trial, choice FROM tones WHERE rater = ?", (rater,)).fetchall()
    quiet = {tone.id: tone.quiet for tone in self._study.tones}
    return len(rows), sum(quiet[row["trial"]] == row["choice"] for row in rows)

  def answer_tones(self, rater: str, trial: str, choice: int) -> Outcome:
    """Records which tone, 0 to 2, was the quietest. Trials come in the study's order."""
    with self._transaction() as database:
      rows = database.execute("SELECT trial, choice FROM tones WHERE rater = ?", (rater,)).fetchall()
      known = {row["trial"]: row["choice"] for row in rows}
      if trial in known:
        return Outcome.REPEATED if known[trial] == choice else Outcome.CONFLICT
      if len(known) == len(self._study.tones) or trial != self._study.tones[len(known)].id:
        return Outcome.UNKNOWN
      database.execute("INSERT INTO tones VALUES (?, ?, ?, ?)", (rater, trial, choice, self._clock()))
    return Outcome.SAVED

  def next_trial(self, rater: str) -> tuple[int, Trial] | None:
    """Position, from 0, and trial that this rater is to answer; None when all are answered.

    A trial given out and not answered comes again. Otherwise it is a check, where this rater has one next, or
    one of the least answered trials of the least answered pair, of a clip the rater has heard least.
    """
    with self._transaction() as database:
      rows = database.execute("SELECT * FROM answers WHERE rater = ?", (rater,)).fetchall()
      for row in rows:
        if row["answer"] is None:
          return row["position"], self._trials[row["trial"]]
      settings = self._study.settings
      position, total = len(rows), settings.trials_per_rater + settings.checks_per_rater
      if position >= total:
        return None
      seen = [self._trials[row["trial"]] for row in rows]
      rng = random.Random(f"{rater} {position}")
      if position in random.Random(rater).sample(range(total), settings.checks_per_rater):
        trial = rng.choice([check for check in self._study.checks if check not in seen])
      else:
        trial = self._least_answered(database, seen, rng)
      database.execute(
        "INSERT INTO answers (rater, position, trial, assigned) VALUES (?, ?, ?, ?)",
        (rater, position, trial.id, self._clock()),
      )
    return position, trial

  def _least_answered(self, database: sqlite3.Connection, seen: list[Trial], rng: random.Random) -> Trial:
    times = collections.Counter(
      dict(
        database.execute(
          "SELECT trial, COUNT(*) FROM answers WHERE answer IS NOT NULL OR assigned > ? GROUP BY trial",
          (self._clock() - OPEN_SECONDS,),
        ).fetchall()
      )
    )
    of_pair: collections.Counter[frozenset[str]] = collections.Counter()
    for trial in self._study.trials:
      of_pair[trial.pair] += times[trial.id]
    heard = collections.Counter(trial.clip for trial in seen)
    known = {trial.id for trial in seen}
    free = [trial for trial in self._study.trials if trial.id not in known]
    rng.shuffle(free)  # min takes the first of equals
    return min(free, key=lambda trial: (of_pair[trial.pair], times[trial.id], heard[trial.clip]))

  def answer(self, rater: str, trial: str, answer: int, listened: Listened) -> Outcome:
    """Records an answer, −2 (Option 1 much better) to 2 (Option 2 much better), once."""
    with self._transaction() as database:
      row = database.execute(
        "SELECT answer FROM answers WHERE rater = ? AND trial = ?", (rater, trial)
      ).fetchone()
      if row is None:
        return Outcome.UNKNOWN
      if row["answer"] is not None:
        return Outcome.REPEATED if row["answer"] == answer else Outcome.CONFLICT
      database.execute(
        "UPDATE answers SET answer = ?, listened_vocals = ?, listened_left = ?, listened_right = ?, "
        "answered = ? WHERE rater = ? AND trial = ?",
        (answer, *dataclasses.astuple(listened), self._clock(), rater, trial),
      )
    return Outcome.SAVED

  def export(self) -> list[dict[str, str | int | float | None]]:
    """Every answer, in the order of raters and positions; what the columns mean: docs/listening_study.md."""
    with self._transaction() as database:
      rows = database.execute(
        "SELECT answers.* FROM answers JOIN raters ON rater = name WHERE answer IS NOT NULL "
        "ORDER BY began, name, position"
      ).fetchall()
      raters = [row["name"] for row in database.execute("SELECT name FROM raters")]
    heard = {name: self.tones_answered(name) for name in raters}
    return [self._exported(row, *heard[row["rater"]]) for row in rows]

  def _exported(self, row: sqlite3.Row, tones_answered: int, tones_right: int) -> dict:
    trial = self._trials[row["trial"]]
    order = [*self._study.systems, trial.left, trial.right]  # noise is no system: it comes last
    first, second = sorted((trial.left, trial.right), key=order.index)
    preference = -row["answer"] if trial.left == first else row["answer"]
    finished = tones_answered == len(self._study.tones)
    return {
      "rater": row["rater"],
      "position": row["position"],
      "kind": "check" if trial.is_check else "trial",
      "trial": trial.id,
      "clip": trial.clip,
      "left": trial.left,
      "right": trial.right,
      "answer": row["answer"],
      "system_a": first,
      "system_b": second,
      "preference": preference,
      "listened_vocals": row["listened_vocals"],
      "listened_left": row["listened_left"],
      "listened_right": row["listened_right"],
      "assigned": row["assigned"],
      "answered": row["answered"],
      "check_passed": int(row["answer"] * trial.correct > 0) if trial.is_check else None,
      "headphones_right": tones_right,
      "headphones_passed": int(tones_right >= tones.PASS) if finished else None,
    }

  @contextlib.contextmanager
  def _transaction(self) -> Iterator[sqlite3.Connection]:
    """Takes the write lock at once: what is read in it stays true until it ends."""
    with self._lock:
      self._database.execute("BEGIN IMMEDIATE")
      try:
        yield self._database
      except BaseException:
        self._database.execute("ROLLBACK")
        raise
      self._database.execute("COMMIT")


def _hash(token: str) -> str:
  return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
