"""What was found about a model, for people: a table, a picture, and whether it passes the gate."""

import dataclasses
import pathlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from singsong_jax import files
from singsong_jax.evaluation import judgement, vocal_use
from singsong_jax.evaluation.judgement import Scores

SHOWN = ("chord_24", "beat_f")  # the gate's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """Scores of every row, and the comparisons of the gate.

  Attributes:
    rows: name → metric → mean over songs.
    intervals: name → metric of the gate → 95 % interval of its mean.
    comparisons: of `vocal_use`.
    num_songs: that were judged on.
    num_tracks: the same, clips of one song counted once.
    run: what was asked for, and of which model.
  """

  rows: dict[str, dict[str, float]]
  intervals: dict[str, dict[str, tuple[float, float]]]
  comparisons: Sequence[vocal_use.Comparison]
  num_songs: int
  num_tracks: int
  run: dict[str, Any]

  @classmethod
  def of(
    cls,
    rows: Mapping[str, Scores],
    conditions: Mapping[str, Scores],
    run: dict[str, Any],
    seed: int = 0,
    tracks: Sequence[Hashable] | None = None,
  ) -> "Verdict":
    """`rows` are references, baselines and others; `conditions` those of the model. `tracks`, of each song:
    clips of one are no evidence of their own."""
    named = {**rows, **{f"{judgement.MODEL}, {name}": scores for name, scores in conditions.items()}}
    num_songs = len(next(iter(named.values())))
    return cls(
      rows=judgement.means(named),
      intervals={
        name: {
          metric: judgement.interval([song[metric] for song in scores], seed, groups=tracks)
          for metric in SHOWN
        }
        for name, scores in named.items()
      },
      comparisons=vocal_use.compare(conditions, seed, tracks),
      num_songs=num_songs,
      num_tracks=num_songs if tracks is None else len({*tracks}),
      run=run,
    )

  @property
  def metrics(self) -> list[str]:
    """Names of the columns."""
    return list(next(iter(self.rows.values())))

  @property
  def passes(self) -> bool:
    """Whether the model listens: every comparison holds."""
    return bool(self.comparisons) and all(comparison.holds for comparison in self.comparisons)

  @property
  def too_few(self) -> bool:
    """Whether no model could pass with so few songs."""
    return self.num_tracks < vocal_use.FEWEST_SONGS

  def markdown(self) -> str:
    """All rows and comparisons."""
    lines = [
      f"Means over {self._songs}.",
      "",
      f"| | {' | '.join(self.metrics)} |",
      f"|---|{'---:|' * len(self.metrics)}",
    ]
    for name, scores in self.rows.items():
      lines.append(f"| {name} | {' | '.join(_number(scores[metric]) for metric in self.metrics)} |")
    lines += ["", "| claim | | against | p |", "|---|---:|---:|---:|"]
    for found in self.comparisons:
      p = f"{found.p:.2g}" if found.holds else f"**{found.p:.2g}: fails**"
      lines.append(f"| {found.claim} | {found.better:.3f} | {found.worse:.3f} | {p} |")
    passed = sum(comparison.holds for comparison in self.comparisons)
    word = "passes" if self.passes else "FAILS"
    verdict = f"The model {word} the vocal-use gate"
    missed = [comparison for comparison in self.comparisons if not comparison.holds]
    more = ""
    if missed and all(comparison.better > comparison.worse for comparison in missed):
      more = " What fails points the right way: more songs may tell."
    if self.too_few:
      verdict = (
        f"{self.num_tracks} songs cannot tell whether the model passes the vocal-use gate, "
        f"{vocal_use.FEWEST_SONGS} are the least"
      )
    lines += [
      "",
      f"{verdict}: {passed} of {len(self.comparisons)} comparisons hold at p < {vocal_use.LEVEL:g} (paired "
      f"permutation, one-sided, Holm).{more}",
    ]
    return "\n".join(lines) + "\n"

  @property
  def _songs(self) -> str:
    clips = "" if self.num_tracks == self.num_songs else f" clips of {self.num_tracks}"
    return f"{self.num_songs}{clips} songs"

  def write(self, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `results.json`, `.csv`, `.md` and `.png`; returns their paths."""
    paths = [folder / f"results.{suffix}" for suffix in ("json", "csv", "md", "png")]
    found = {**dataclasses.asdict(self), "passes": self.passes, "too_few": self.too_few}
    files.write_json(paths[0], _without_nan(found))
    rows = ([name, *(scores[metric] for metric in self.metrics)] for name, scores in self.rows.items())
    files.write_text(paths[1], files.to_csv(["row", *self.metrics], rows))
    files.write_text(paths[2], self.markdown())
    with files.replacing(paths[3]) as temporary:
      self._figure().savefig(temporary, dpi=100)
    return paths

  def _figure(self) -> Figure:
    names = list(self.rows)
    figure = Figure(figsize=(11, 1.5 + 0.36 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(SHOWN), sharey=True), SHOWN):
      values = np.array([self.rows[name][metric] for name in names])
      reach = np.abs(np.array([self.intervals[name][metric] for name in names]).T - values)
      colors = ["tab:orange" if name.startswith(judgement.MODEL) else "tab:blue" for name in names]
      axes.barh(names, values, xerr=reach, color=colors, capsize=3)
      axes.set(xlabel=f"{metric}, mean and 95 % interval", xlim=(0, 1))
      axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()  # shared: the first row on top
    figure.suptitle(f"{self._songs}; orange: the model, in each condition of its vocals")
    return figure


def _number(value: float) -> str:
  return "–" if np.isnan(value) else f"{value:.3f}"


def _without_nan(value):
  """JSON has no NaN."""
  if isinstance(value, dict):
    return {name: _without_nan(part) for name, part in value.items()}
  if isinstance(value, list | tuple):
    return [_without_nan(part) for part in value]
  return None if isinstance(value, float) and np.isnan(value) else value
