"""What artefacts in the vocals cost a model, models side by side (SingSong, Figure 3, by musical fit)."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.evaluation.judgement import MODEL
from singsong_jax.evaluation.verdict import SHOWN

_ISOLATED, _FLOOR = "right", "shuffled"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ladder:
  """One model's scores, rung by rung, from what `judge` wrote.

  Attributes:
    rungs: the vocals: isolated, then what was asked for with --separator and --noise.
    values, lows, highs: metric → means over songs, and their 95 % intervals, `[rungs]`.
    floors: metric → mean with another song's vocals.
    songs: names of those judged on.
    digest: of their files.
  """

  rungs: Sequence[str]
  values: Mapping[str, np.ndarray]
  lows: Mapping[str, np.ndarray]
  highs: Mapping[str, np.ndarray]
  floors: Mapping[str, float]
  songs: Sequence[str]
  digest: str

  @classmethod
  def read(cls, folder: pathlib.Path) -> "Ladder":
    """Raises InputError where `folder` has no results of `judge`, or of isolated vocals alone."""
    path = folder / "results.json"
    found = files.read_json(path)
    try:
      kinds = found["run"]["vocals"]
      rows = [f"{MODEL}, {kind}" for kind in (_ISOLATED, *kinds)]
      table = {m: np.array([found["rows"][row][m] for row in rows], float) for m in SHOWN}
      reach = {m: np.array([found["intervals"][row][m] for row in rows], float) for m in SHOWN}
      floors = {m: float(found["rows"][f"{MODEL}, {_FLOOR}"][m]) for m in SHOWN}
      songs, digest = found["run"]["names"], found["run"]["digest"]
    except (KeyError, TypeError) as error:
      raise InputError(f"{path} is not what judge writes: {error!r} is missing or of another kind") from error
    if not kinds:
      raise InputError(f"{path} is of isolated vocals alone; judge with --separator and --noise, too")
    lows, highs = ({m: reach[m][:, side] for m in SHOWN} for side in (0, 1))
    return cls(
      rungs=("isolated", *kinds),
      values=table,
      lows=lows,
      highs=highs,
      floors=floors,
      songs=songs,
      digest=digest,
    )


def check_same(ladders: Mapping[str, Ladder]) -> None:
  """Raises InputError where two ladders have other rungs or songs: nothing can be compared then."""
  (first, known), *others = ladders.items()
  for name, ladder in others:
    for what in ("rungs", "songs"):
      mine, theirs = getattr(known, what), getattr(ladder, what)
      if list(mine) != list(theirs):
        raise InputError(
          f"{first} and {name} were judged on other {what}: {len(mine)} and {len(theirs)}, "
          f"{sorted({*mine} ^ {*theirs})[:4]} in one of them alone"
        )
    if known.digest != ladder.digest:
      raise InputError(f"{first} and {name} were judged on other songs, which have the same names")


def markdown(ladders: Mapping[str, Ladder]) -> str:
  """The numbers of the picture: a line for each model and metric."""
  rungs = next(iter(ladders.values())).rungs
  lines = [f"| | | {' | '.join(rungs)} | another song's |", f"|---|---|{'---:|' * (len(rungs) + 1)}"]
  for metric in SHOWN:
    for name, ladder in ladders.items():
      cells = [f"{value:.2f}" for value in (*ladder.values[metric], ladder.floors[metric])]
      lines.append(f"| {name} | `{metric}` | {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


def draw(ladders: Mapping[str, Ladder], path: pathlib.Path) -> None:
  """A line for each model, a panel for each metric; dotted is each with another song's vocals."""
  check_same(ladders)
  figure = Figure(figsize=(11, 4.2), layout="constrained")
  FigureCanvasAgg(figure)
  for axes, metric in zip(figure.subplots(1, len(SHOWN)), SHOWN):
    for index, (name, ladder) in enumerate(ladders.items()):
      places, values = np.arange(len(ladder.rungs)), ladder.values[metric]
      reach = np.abs(np.stack([ladder.lows[metric], ladder.highs[metric]]) - values)
      color = f"C{index}"
      axes.errorbar(places, values, yerr=reach, color=color, marker="o", capsize=3, label=name)
      axes.axhline(ladder.floors[metric], color=color, linestyle=":")
      axes.set_xticks(places, [rung.replace(" (", "\n(") for rung in ladder.rungs])
    axes.set(title=metric, ylim=(0, 1), xlabel="vocals")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
  figure.suptitle(f"{len(ladder.songs)} songs, 95 % intervals; dotted: with another song's vocals")
  with files.replacing(path) as temporary:
    figure.savefig(temporary, dpi=100, format="png")
