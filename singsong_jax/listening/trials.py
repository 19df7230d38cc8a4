"""What a study asks: trials that are balanced, and `study.json`, which says what its files are.

`study.json` stays on the server: a browser learns ids of trials and names of files, both drawn at random.
"""

import dataclasses
import itertools
import pathlib
import random
from collections.abc import Sequence

from singsong_jax import files
from singsong_jax.errors import InputError

FORMAT = 1
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
    listen_seconds: of each option, before an answer is taken.
    contact: whom raters can ask; shown on the first page.
  """

  trials_per_rater: int = 20
  checks_per_rater: int = 2
  require_headphones: bool = False
  listen_seconds: float = 3.0
  contact: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """All that `study.json` holds.

  Attributes:
    systems: their names, in the order given.
    reference: the system whose mixes are right in checks.
    seed: of the plan.
    trials, checks, tones: what is asked.
  """

  systems: tuple[str, ...]
  reference: str
  seed: int
  settings: Settings
  trials: tuple[Trial, ...]
  checks: tuple[Trial, ...]
  tones: tuple[ToneTrial, ...]

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


def plan_checks(reference: str, clips: Sequence[str], number: int, seed: int) -> list[Planned]:
  """Comparisons of the reference with noise, of clips of their own; half of them have it as Option 1.

  Raises:
    InputError: more checks than clips.
  """
  if not 0 <= number <= len(clips):
    raise InputError(f"--checks_per_rater={number}: {len(clips)} clips give 0 to {len(clips)} checks")
  rng = random.Random(f"checks {seed}")
  chosen = rng.sample(list(clips), number)
  return [
    Planned(clip=clip, left=(reference, NOISE)[index % 2], right=(NOISE, reference)[index % 2])
    for index, clip in enumerate(chosen)
  ]
