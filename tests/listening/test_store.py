"""Answers: exactly once, balanced between raters, the same after a crash."""

import collections
import concurrent.futures
import dataclasses
import shutil
import sqlite3

import pytest

from singsong_jax.errors import InputError
from singsong_jax.listening.store import OPEN_SECONDS, Listened, Outcome, Store
from singsong_jax.listening.trials import Settings, Study, Trial, plan_checks, plan_trials

HEARD = Listened(1.0, 2.0, 3.0)


class Clock:
  def __init__(self):
    self.now = 1_000_000.0

  def __call__(self):
    return self.now


@pytest.fixture
def open_store():
  stores = []

  def opened(folder, study, clock=None):
    stores.append(Store(folder, study, clock or Clock()))
    return stores[-1]

  yield opened
  for store in stores:
    store.close()


def new_rater(store):
  return store.rater(store.add_rater())


def answer_all(store, rater, answer=1):
  """Answers everything; returns the trials."""
  seen = []
  while due := store.next_trial(rater):
    assert due[0] == len(seen)
    assert store.answer(rater, due[1].id, answer, HEARD) is Outcome.SAVED
    seen.append(due[1])
  return seen


def test_a_trial_is_answered_once(make, open_store):
  store = open_store(*make())
  rater = new_rater(store)
  _, trial = store.next_trial(rater)
  assert store.next_trial(rater)[1] == trial
  assert store.answer(rater, trial.id, 2, HEARD) is Outcome.SAVED
  assert store.answer(rater, trial.id, 2, Listened(9, 9, 9)) is Outcome.REPEATED
  assert store.answer(rater, trial.id, 1, HEARD) is Outcome.CONFLICT
  assert store.answer(new_rater(store), trial.id, 1, HEARD) is Outcome.UNKNOWN
  (row,) = store.export()
  assert (row["answer"], row["listened_vocals"], row["listened_right"]) == (2, 1.0, 3.0)
  assert (row["rater"], row["trial"], row["left"]) == (rater, trial.id, trial.left)
  assert store.next_trial(rater)[1] != trial


def test_many_at_once_leave_one_row(make, open_store):
  store = open_store(*make())
  rater = new_rater(store)
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    due = list(pool.map(lambda _: store.next_trial(rater), range(32)))
    assert len(set(due)) == 1
    outcomes = pool.map(lambda i: store.answer(rater, due[0][1].id, i % 2, HEARD), range(32))
  assert collections.Counter(outcomes) == {
    Outcome.SAVED: 1,
    Outcome.REPEATED: 15,
    Outcome.CONFLICT: 16,
  }
  assert len(store.export()) == 1


def test_raters_are_balanced(make, open_store):
  """Twelve at once, each a step at a time: every pair gets as many answers, every trial of 36 about two.

  Not exactly two: the last trial that is short of one may be known to whoever comes; who does is random.
  """
  folder, study = make(per_pair=12, trials_per_rater=6, checks_per_rater=1)
  store = open_store(folder, study)
  raters = [new_rater(store) for _ in range(12)]
  seen = collections.defaultdict(list)
  for _ in range(7):
    due = {rater: store.next_trial(rater)[1] for rater in raters}  # all are shown before one answers
    for rater, trial in due.items():
      seen[rater].append(trial)
      store.answer(rater, trial.id, 0, HEARD)
  assert not any(store.next_trial(rater) for rater in raters)
  trials = [trial for own in seen.values() for trial in own if not trial.is_check]
  times = collections.Counter(trial.id for trial in trials)
  assert len(times) == 36 and set(times.values()) <= {1, 2, 3}
  assert set(collections.Counter(trial.pair for trial in trials).values()) == {24}
  for own in seen.values():
    assert len({trial.id for trial in own}) == 7 and sum(trial.is_check for trial in own) == 1
    assert max(collections.Counter(trial.clip for trial in own if not trial.is_check).values()) <= 3
  places = [next(i for i, trial in enumerate(own) if trial.is_check) for own in seen.values()]
  assert len(set(places)) > 2  # checks come anywhere


def test_two_raters_at_once_hear_different_trials(make, open_store):
  store = open_store(*make(per_pair=12, trials_per_rater=18, checks_per_rater=0))
  one, other = new_rater(store), new_rater(store)
  heard = {one: set(), other: set()}
  for _ in range(18):
    for rater in (one, other):
      _, trial = store.next_trial(rater)
      heard[rater].add(trial.id)
    for rater in (one, other):
      store.answer(rater, store.next_trial(rater)[1].id, 1, HEARD)
  assert not heard[one] & heard[other] and len(heard[one] | heard[other]) == 36


def test_who_leaves_holds_nothing_back_for_ever(make, open_store):
  clock = Clock()
  folder, study = make(per_pair=1, trials_per_rater=3, checks_per_rater=0)
  store = open_store(folder, study, clock)
  _, left_open = store.next_trial(new_rater(store))
  rater = new_rater(store)
  assert store.next_trial(rater)[1] != left_open
  clock.now += OPEN_SECONDS + 1
  answered = store.next_trial(rater)[1]
  store.answer(rater, answered.id, 1, HEARD)
  later = new_rater(store)
  assert store.next_trial(later)[1] != answered


def test_two_hundred_in_a_row(make, open_store):
  folder, study = make(per_pair=12, trials_per_rater=24, checks_per_rater=2)
  store = open_store(folder, study)
  seen = [answer_all(store, new_rater(store)) for _ in range(8)]
  assert [len(own) for own in seen] == [26] * 8 and len(store.export()) == 208
  assert all(len(set(own)) == 26 for own in seen)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_check_gives_no_mix_away(make, open_store, earlier):
  """It tells which mix is the reference's: the rater hears none of its sounds again, before or after."""
  folder, study = make(per_pair=12, trials_per_rater=20)
  if earlier:  # there were only as many checks as each rater gets
    study = dataclasses.replace(study, checks=study.checks[:2])
  store = open_store(folder, study)
  heard = set()
  for _ in range(8):
    seen = answer_all(store, new_rater(store))
    checks, trials = ({t for t in seen if t.is_check is kind} for kind in (True, False))
    assert (len(checks), len(trials)) == (2, 20)
    assert not {check.clip for check in checks} & {trial.clip for trial in trials}
    assert not sounds(checks) & sounds(trials)
    heard |= {trial.clip for trial in trials}
  assert len(heard) == (4 if earlier else 6)


def sounds(trials):
  return {name for trial in trials for name in (trial.vocals_file, trial.left_file, trial.right_file)}


@pytest.mark.parametrize(("systems", "clips", "per_pair"), [(3, 12, 24), (5, 24, 48)])
def test_no_clip_is_heard_more_than_needed(tmp_path, open_store, systems, clips, per_pair):
  """Nor is a pair, or one order of its options, asked more often; to the end of every pass."""
  study = without_sounds(systems, clips, per_pair)
  store = open_store(tmp_path, study)
  store._database.execute("PRAGMA synchronous = OFF")  # no power cut is tested here
  counted = []
  for _ in range(15):
    trials = [trial for trial in answer_all(store, new_rater(store)) if not trial.is_check]
    assert max(collections.Counter(trial.clip for trial in trials).values()) <= -(-20 // (clips - 2)) + 1
    counted += trials
  pairs = collections.Counter(trial.pair for trial in counted).values()
  assert max(pairs) - min(pairs) <= 1
  orders = collections.Counter((trial.left, trial.right) for trial in counted)
  assert max(abs(times - orders[right, left]) for (left, right), times in orders.items()) <= 4


def without_sounds(systems, clips, per_pair):
  """A study whose raters get 20 trials and 2 checks."""
  clips = [f"clip {index}" for index in range(clips)]
  plan = plan_trials([f"system {index}" for index in range(systems)], clips, per_pair, 0)
  checks = plan_checks("system 0", clips, 2, 0)

  def trial(index, planned, correct):
    files = dict.fromkeys(("vocals_file", "left_file", "right_file"), "x.wav")
    return Trial(**dataclasses.asdict(planned), **files, id=f"{correct} {index}", correct=correct)

  return Study(
    systems=tuple(f"system {index}" for index in range(systems)),
    reference="system 0",
    seed=0,
    settings=Settings(),
    trials=tuple(trial(index, planned, 0) for index, planned in enumerate(plan)),
    checks=tuple(trial(index, planned, 1) for index, planned in enumerate(checks)),
    tones=(),
  )


def test_the_file_alone_has_all_answers(make, open_store, tmp_path):
  """Whoever copies answers.sqlite while it is served, and nothing beside it, has them."""
  folder, study = make()
  store = open_store(folder, study)
  answer_all(store, new_rater(store))
  shutil.copy(folder / "answers.sqlite", tmp_path)
  copy = Store(tmp_path, study, make=False)
  assert copy.export() == store.export() and len(copy.export()) == 6
  copy.close()


def test_answers_of_an_earlier_version(make, open_store, tmp_path):
  """When it was killed, it left the newest in answers.sqlite-wal."""
  folder, study = make()
  store = open_store(folder, study)
  answer_all(store, new_rater(store))
  before = store.export()
  store._database.execute("PRAGMA journal_mode = WAL")
  token = store.add_rater()
  for path in folder.glob("answers.sqlite*"):
    shutil.copy(path, tmp_path)
  assert (tmp_path / "answers.sqlite-wal").stat().st_size
  again = open_store(tmp_path, study)
  assert again.export() == before and again.rater(token)
  assert [path.name for path in tmp_path.iterdir()] == ["answers.sqlite"]


def test_reading_makes_no_database(make, tmp_path):
  folder, study = make()
  with pytest.raises(InputError, match=r"there is no .*answers\.sqlite: nobody was asked yet"):
    Store(folder, study, make=False)
  assert not (folder / "answers.sqlite").exists()
  (folder / "answers.sqlite").touch()
  with pytest.raises(InputError, match=r"answers\.sqlite: no such table: answers; if it is a copy, copy"):
    Store(folder, study, make=False)


def test_it_goes_on_after_being_opened_anew(make, open_store):
  folder, study = make()
  store = open_store(folder, study)
  token = store.add_rater()
  rater = store.rater(token)
  store.answer(rater, store.next_trial(rater)[1].id, 1, HEARD)
  due = store.next_trial(rater)
  again = open_store(folder, study)
  assert again.rater(token) == rater and again.next_trial(rater) == due
  assert again.export() == store.export()


def test_tokens_are_not_stored(make, open_store):
  folder, study = make()
  store = open_store(folder, study)
  token = store.add_rater()
  assert store.rater(token + "x") is None and store.rater("") is None
  store.close()
  stored = b"".join(path.read_bytes() for path in folder.glob("answers.sqlite*"))
  assert token.encode() not in stored


def test_headphones(make, open_store):
  folder, study = make()
  store = open_store(folder, study)
  rater = new_rater(store)
  first, *rest = study.tones
  assert store.answer_tones(rater, rest[0].id, 0) is Outcome.UNKNOWN
  assert store.answer_tones(rater, first.id, first.quiet) is Outcome.SAVED
  assert store.answer_tones(rater, first.id, first.quiet) is Outcome.REPEATED
  assert store.answer_tones(rater, first.id, (first.quiet + 1) % 3) is Outcome.CONFLICT
  for tone in rest:
    store.answer_tones(rater, tone.id, 0)
  assert store.tones_answered(rater) == (6, 1 + sum(tone.quiet == 0 for tone in rest))
  answer_all(store, rater)
  row = store.export()[0]
  assert (row["headphones_right"], row["headphones_passed"]) == (store.tones_answered(rater)[1], 0)


def test_exported_preferences_are_for_a(make, open_store):
  folder, study = make(trials_per_rater=6, checks_per_rater=2)
  store = open_store(folder, study)
  seen = answer_all(store, new_rater(store), answer=2)  # Option 2 much better
  for row, trial in zip(store.export(), seen, strict=True):
    order = [*study.systems, "noise"]
    assert order.index(row["system_a"]) < order.index(row["system_b"])
    assert row["preference"] == (2 if trial.right == row["system_a"] else -2)
    expected = {0: None, 1: 1, -1: 0}[trial.correct]
    assert (row["check_passed"], row["kind"]) == (expected, "check" if trial.correct else "trial")


def test_answers_of_another_study(make, open_store):
  folder, study = make()
  store = open_store(folder, study)
  store.next_trial(new_rater(store))
  _, other = make()
  with pytest.raises(InputError, match="not of one study"):
    Store(folder, other)
  folder, study = make()
  (folder / "answers.sqlite").write_bytes(b"no database at all, but long enough to be one" * 10)
  with pytest.raises(InputError, match=r"answers\.sqlite: file is not a database"):
    Store(folder, study)


def test_the_database_itself_refuses_a_second_row(make, open_store):
  folder, study = make()
  store = open_store(folder, study)
  rater = new_rater(store)
  _, trial = store.next_trial(rater)
  database = sqlite3.connect(folder / "answers.sqlite")
  with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
    database.execute(
      "INSERT INTO answers (rater, position, trial, assigned) VALUES (?, 9, ?, 0)", (rater, trial.id)
    )
  database.close()


def test_who_reads_for_long_does_not_end_the_study(make, open_store):
  """A commit waits for readers, and gives up: the next one must find no transaction that was left open."""
  folder, study = make()
  store = open_store(folder, study)
  store._database.execute("PRAGMA busy_timeout = 50")
  reader = sqlite3.connect(folder / "answers.sqlite", isolation_level=None)
  reader.execute("BEGIN")
  reader.execute("SELECT * FROM raters").fetchall()
  with pytest.raises(sqlite3.OperationalError, match="locked"):
    store.add_rater()
  reader.close()
  assert store.rater(store.add_rater())
