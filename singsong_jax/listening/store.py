"""Raters and their answers in SQLite: one transaction each, so that a server can be killed at any time.

A rater is known by a token that only the rater's browser has: its hash is stored, and a name drawn at random.
No addresses and no names of people are.
"""

import collections
import contextlib
import dataclasses
import enum
import hashlib
import math
import pathlib
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypedDict

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


class Row(TypedDict):
  """An exported answer; what the columns mean: docs/listening_study.md."""

  rater: str
  position: int
  kind: str
  trial: str
  clip: str
  left: str
  right: str
  answer: int
  system_a: str
  system_b: str
  preference: int
  listened_vocals: float
  listened_left: float
  listened_right: float
  assigned: float
  answered: float
  check_passed: int | None
  headphones_right: int
  headphones_passed: int | None


class Store:
  """The answers to one study, in `answers.sqlite` of its folder. Safe to use from several threads.

  Args:
    clock: seconds since 1970.
    make: makes a database where there is none.

  Raises:
    InputError: a database that cannot be used, or is of another study.
  """

  def __init__(
    self, folder: pathlib.Path, study: Study, clock: Callable[[], float] = time.time, make: bool = True
  ):
    self._study, self._clock, self._lock = study, clock, threading.Lock()
    self._trials = {trial.id: trial for trial in (*study.trials, *study.checks)}
    path = folder / "answers.sqlite"
    if not make and not path.exists():
      raise InputError(f"there is no {path}: nobody was asked yet, or the answers are kept elsewhere")
    try:
      # autocommit: transactions begin and end in _transaction
      self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
      self._database.row_factory = sqlite3.Row
      if make:
        # Not WAL, which leaves answers in a second file: whoever copies this one has them all.
        self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.executescript(_SCHEMA)
      # With the default a power cut may take the last answer away.
      self._database.execute("PRAGMA synchronous = EXTRA")
      self._database.execute("PRAGMA foreign_keys = ON")
      asked = {row["trial"] for row in self._database.execute("SELECT DISTINCT trial FROM answers")}
    except sqlite3.Error as error:
      hint = "" if make else f"; if it is a copy, copy a {path.name}-journal or -wal beside the original too"
      raise InputError(f"cannot use {path}: {error}{hint}") from error
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
    one of the least answered trials of the least answered pair, of a clip the rater has heard least, in the
    order of options that was answered less. It is of no clip of the rater's checks, nor of one the rater has
    heard more than once beyond an even share.
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
      checks = self._study.checks_of(rater)
      if position in random.Random(rater).sample(range(total), settings.checks_per_rater):
        trial = rng.choice([check for check in checks if check not in seen])
      else:
        trial = self._least_answered(database, seen, {check.clip for check in checks}, rng)
      database.execute(
        "INSERT INTO answers (rater, position, trial, assigned) VALUES (?, ?, ?, ?)",
        (rater, position, trial.id, self._clock()),
      )
    return position, trial

  def _least_answered(
    self, database: sqlite3.Connection, seen: list[Trial], checked: set[str], rng: random.Random
  ) -> Trial:
    times = collections.Counter(
      dict(
        database.execute(
          "SELECT trial, COUNT(*) FROM answers WHERE answer IS NOT NULL OR assigned > ? GROUP BY trial",
          (self._clock() - OPEN_SECONDS,),
        ).fetchall()
      )
    )
    of_pair: collections.Counter[frozenset[str]] = collections.Counter()
    of_order: collections.Counter[tuple[str, str]] = collections.Counter()
    for trial in self._study.trials:
      of_pair[trial.pair] += times[trial.id]
      of_order[trial.left, trial.right] += times[trial.id]
    heard = collections.Counter(trial.clip for trial in seen)
    clips = {trial.clip for trial in self._study.trials} - checked
    enough = math.ceil(self._study.settings.trials_per_rater / len(clips)) + 1
    known = {trial.id for trial in seen}
    free = [trial for trial in self._study.trials if trial.id not in known and trial.clip not in checked]
    rng.shuffle(free)  # min takes the first of equals
    return min(
      free,
      key=lambda trial: (
        heard[trial.clip] >= enough,  # else the last of a pass, all of one clip, would all come to one rater
        of_pair[trial.pair],
        times[trial.id],
        heard[trial.clip],
        of_order[trial.left, trial.right],
      ),
    )

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

  def export(self) -> list[Row]:
    """Every answer, in the order of raters and positions."""
    with self._transaction() as database:
      rows = database.execute(
        "SELECT answers.* FROM answers JOIN raters ON rater = name WHERE answer IS NOT NULL "
        "ORDER BY began, name, position"
      ).fetchall()
      raters = [row["name"] for row in database.execute("SELECT name FROM raters")]
    heard = {name: self.tones_answered(name) for name in raters}
    return [self._exported(row, *heard[row["rater"]]) for row in rows]

  def _exported(self, row: sqlite3.Row, tones_answered: int, tones_right: int) -> Row:
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
        self._database.execute("COMMIT")  # which fails, too, while somebody reads for long
      except BaseException:
        if self._database.in_transaction:
          self._database.execute("ROLLBACK")
        raise


def _hash(token: str) -> str:
  return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
