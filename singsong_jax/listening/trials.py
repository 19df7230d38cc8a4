"""What a study asks: trials that are balanced, and `study.json`, which says what its files are.

`study.json` stays on the server: a browser learns ids of trials and names of files, both drawn at random.
"""

import collections
import dataclasses
import itertools
import pathlib
import random
from collections.abc import Sequence

from singsong_jax import files
from singsong_jax.errors import InputError

FORMAT = 1
MAX_LISTEN_SECONDS = 600.0
NOISE = "noise"  # the option of a check that is wrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
  """A comparison before it has files: the clip, and the systems heard as Option 1 and Option 2."""

  clip: str
  left: str
  right: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Planned):
  """A comparison.

  Attributes:
    id: what the browser calls it.
    vocals_file, left_file, right_file: names in the study's folder `audio`.
    correct: sign of the answers that are right, −1 for Option 1 and 1 for Option 2; 0 where none is.
  """

  id: str
  vocals_file: str
  left_file: str
  right_file: str
  correct: int = 0

  @property
  def pair(self) -> frozenset[str]:
    return frozenset((self.left, self.right))

  @property
  def is_check(self) -> bool:
    return self.correct != 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToneTrial:
  """A trial of the headphone check: three tones in `file`; `quiet`, from 0, is the quieter one."""

  id: str
  file: str
  quiet: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What every rater of a study gets.

  Attributes:
    trials_per_rater: comparisons of two systems.
    checks_per_rater: attention checks between them.
    require_headphones: whether who fails the headphone check is turned away.
    listen_seconds: of each option, before an answer is taken; of a shorter one all.
    contact: whom raters can ask; shown on the first page.

  Raises:
    InputError: `listen_seconds` that nobody can listen to.
  """

  trials_per_rater: int = 20
  checks_per_rater: int = 2
  require_headphones: bool = False
  listen_seconds: float = 3.0
  contact: str = ""

  def __post_init__(self):
    if not 0 <= self.listen_seconds <= MAX_LISTEN_SECONDS:  # which NaN is not
      raise InputError(f"--listen_seconds={self.listen_seconds}: give 0 to {MAX_LISTEN_SECONDS:g} seconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """All that `study.json` holds.

  Attributes:
    systems: their names, in the order given.
    reference: the system whose mixes are right in checks.
    seed: of the plan.
    trials, tones: what is asked.
    checks: of which each rater gets some, see `checks_of`.
  """

  systems: tuple[str, ...]
  reference: str
  seed: int
  settings: Settings
  trials: tuple[Trial, ...]
  checks: tuple[Trial, ...]
  tones: tuple[ToneTrial, ...]

  def checks_of(self, rater: str) -> tuple[Trial, ...]:
    """This rater's checks: neighbours in `checks` from a random one on, so that the sides go by turns.

    The rater must get no other trial of their clips: a check tells which mix is the reference's.
    """
    start = int(random.Random(f"checks {rater}").random() * len(self.checks))
    return (self.checks * 2)[start : start + self.settings.checks_per_rater]

  def audio_names(self) -> frozenset[str]:
    """Of every file a browser may have."""
    comparisons = (*self.trials, *self.checks)
    names = {name for trial in comparisons for name in (trial.vocals_file, trial.left_file, trial.right_file)}
    return frozenset(names | {tone.file for tone in self.tones})

  def write(self, folder: pathlib.Path) -> None:
    files.write_json(folder / "study.json", {"format": FORMAT, **dataclasses.asdict(self)})

  @classmethod
  def read(cls, folder: pathlib.Path) -> "Study":
    """Raises InputError where the folder has no `study.json` that this version wrote."""
    path = folder / "study.json"
    found = files.read_json(path)
    try:
      if found.pop("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
      return cls(
        systems=tuple(found.pop("systems")),
        settings=Settings(**found.pop("settings")),
        trials=tuple(Trial(**trial) for trial in found.pop("trials")),
        checks=tuple(Trial(**trial) for trial in found.pop("checks")),
        tones=tuple(ToneTrial(**tone) for tone in found.pop("tones")),
        **found,
      )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise InputError(f"{path} is not a study of this version: {error}; make it anew") from error


def plan_trials(systems: Sequence[str], clips: Sequence[str], per_pair: int, seed: int) -> list[Planned]:
  """Comparisons of every two systems, in random order.

  Each pair has `per_pair`; each of its systems is Option 1 in half of them (± ½). The numbers of trials of
  any two clips differ by at most one, in a pair and in all. No trial is there twice: a clip that a pair has a
  second time comes in the other order.

  Raises:
    InputError: fewer than two systems, or `per_pair` beyond two for each clip.
  """
  if len(systems) < 2:
    raise InputError(f"{len(systems)} system cannot be compared: give --instrumentals twice or more")
  if not 1 <= per_pair <= 2 * len(clips):
    raise InputError(
      f"--trials_per_pair={per_pair}: {len(clips)} clips give 1 to {2 * len(clips)} trials for a pair, one "
      f"for each clip and order; more raters answer them more often"
    )
  rng = random.Random(seed)
  cycle = rng.sample(list(clips), len(clips))
  planned = []
  for index, (one, other) in enumerate(itertools.combinations(systems, 2)):
    places = [cycle[(index * per_pair + place) % len(cycle)] for place in range(per_pair)]
    twice = max(0, per_pair - len(cycle))
    # Clips that come twice are balanced by that; of the rest half are drawn, an odd one by turns.
    single = places[twice : len(cycle)]
    swapped = set(rng.sample(single, (len(single) + index % 2) // 2))
    swapped |= {clip for clip in places[:twice] if rng.random() < 0.5}
    for place, clip in enumerate(places):
      left, right = (one, other) if (clip in swapped) == (place >= len(cycle)) else (other, one)
      planned.append(Planned(clip=clip, left=left, right=right))
  rng.shuffle(planned)
  return planned


def plan_checks(reference: str, clips: Sequence[str], per_rater: int, seed: int) -> list[Planned]:
  """Comparisons of the reference with noise, by turns as Options 1 and 2: one for each clip.

  Raters get different ones (`Study.checks_of`), so that no clip is lost to the comparisons of all of them.
  Of an odd number of clips one has no check, for the turns go round. There are none where raters get none.

  Raises:
    InputError: no clip would be left for a rater's comparisons.
  """
  if not 0 <= per_rater < max(1, len(clips)):
    raise InputError(
      f"--checks_per_rater={per_rater}: {len(clips)} clips give 0 to {len(clips) - 1} checks and one clip or "
      f"more for comparisons"
    )
  rng = random.Random(f"checks {seed}")
  chosen = rng.sample(list(clips), len(clips) // 2 * 2 if per_rater else 0)
  return [
    Planned(clip=clip, left=(reference, NOISE)[index % 2], right=(NOISE, reference)[index % 2])
    for index, clip in enumerate(chosen)
  ]


def check_numbers(trials: Sequence[Planned], checks: Sequence[Planned], settings: Settings) -> None:
  """Raises InputError where trials run out for a rater, who gets none of the clips of the own checks."""
  of_clip = collections.Counter(trial.clip for trial in trials)
  of_check = [of_clip[check.clip] for check in checks] * 2
  lost = [sum(of_check[start : start + settings.checks_per_rater]) for start in range(len(checks))]
  left = len(trials) - max(lost, default=0)
  if settings.trials_per_rater > left:
    raise InputError(
      f"--trials_per_rater={settings.trials_per_rater}: the study has only {len(trials)} trials, and {left} "
      f"without the clips of a rater's {settings.checks_per_rater} checks; make it with fewer of either, or "
      f"with more clips or trials for a pair"
    )
