"""Results as files: JSON, CSV, Markdown, and the paper's two pictures (Figures 4 and 6)."""

import dataclasses
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from singsong_jax import files
from singsong_jax.listening.analysis import Pair, Results


def write(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes `results.json`, `.csv` (a line for each pair), `.md`, `matrix.png`, `wins.png`; returns them."""
  files.make_folder(folder)
  paths = [folder / name for name in ("results.json", "results.csv", "results.md", "matrix.png", "wins.png")]
  files.write_json(paths[0], dataclasses.asdict(results))
  columns = [field.name for field in dataclasses.fields(Pair)]
  files.write_text(paths[1], files.to_csv(columns, map(dataclasses.astuple, results.pairs)))
  files.write_text(paths[2], markdown(results))
  for path, figure in zip(paths[3:], (_matrix_figure(results), _wins_figure(results)), strict=True):
    with files.replacing(path) as temporary:
      figure.savefig(temporary, dpi=120)
  return paths


def markdown(results: Results) -> str:
  """Everything as three tables."""
  names = [system.name for system in results.systems]
  left_out = "left out" if results.excluded else "counted all the same"
  lines = [
    "# Listening study",
    "",
    f"{results.answers} answers of {results.raters} raters. {results.raters_failing_checks} raters failed an "
    f"attention check ({left_out}); {results.raters_passing_headphones} of those counted passed the "
    "headphone check.",
    "",
    "How often (%) the row was preferred to the column; draws count as half:",
    "",
    "| | Any other | " + " | ".join(map(_cell, names)) + " |",
    "|---" * (len(names) + 2) + "|",
  ]
  for system in results.systems:
    row = [_percent(results.percent(system.name, other)) for other in names]
    lines.append(f"| {_cell(system.name)} | {system.percent:.0f} | " + " | ".join(row) + " |")
  lines += ["", "| system | wins | ± | comparisons |", "|---|---|---|---|"]
  lines += [
    f"| {_cell(system.name)} | {system.wins:g} | {system.wins_deviation:.1f} | {system.answers} |"
    for system in results.systems
  ]
  lines += [
    "",
    "p, two-sided; in brackets with Holm's correction for all pairs:",
    "",
    "| A | B | A better | draws | B better | mean (−2 … 2) | Wilcoxon | binomial |",
    "|---" * 8 + "|",
    *map(_pair_line, results.pairs),
  ]
  return "\n".join(lines) + "\n"


def _pair_line(pair: Pair) -> str:
  return (
    f"| {_cell(pair.system_a)} | {_cell(pair.system_b)} | {pair.wins_a} | {pair.draws} | {pair.wins_b} | "
    f"{pair.mean_preference:+.2f} | {pair.wilcoxon:.2g} ({pair.wilcoxon_holm:.2g}) | "
    f"{pair.binomial:.2g} ({pair.binomial_holm:.2g}) |"
  )


def _cell(name: str) -> str:
  return name.replace("|", "\\|")


def _percent(value: float | None) -> str:
  return "" if value is None else f"{value:.0f}"


def _matrix_figure(results: Results) -> Figure:
  names = [system.name for system in results.systems]
  columns = ["Any other", *names]
  values = np.array(
    [
      [system.percent, *(results.percent(system.name, other) for other in names)]
      for system in results.systems
    ],
    dtype=np.float64,  # None becomes NaN, which is drawn as nothing
  )
  figure = Figure(figsize=(2.4 + 0.9 * len(columns), 1.8 + 0.7 * len(names)), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  axes.imshow(values, cmap="RdYlGn", vmin=20, vmax=80, aspect="auto")
  for (row, column), value in np.ndenumerate(values):
    if np.isfinite(value):
      axes.text(column, row, f"{value:.0f}", ha="center", va="center")
  axes.axvline(0.5, color="white", linewidth=6)
  axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", parse_math=False)
  axes.set_yticks(range(len(names)), names, parse_math=False)
  axes.set_title("% of comparisons that the row won", fontsize=10)
  return figure


def _wins_figure(results: Results) -> Figure:
  figure = Figure(figsize=(7, 1.6 + 0.5 * len(results.systems)), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  places = range(len(results.systems))
  wins = [system.wins for system in results.systems]
  deviations = [system.wins_deviation for system in results.systems]
  axes.barh(places, wins, xerr=deviations, color="tab:blue", capsize=4)
  axes.set_yticks(places, [system.name for system in results.systems], parse_math=False)
  axes.set(xlabel="number of wins; bars: standard deviation of the proportion", xlim=(0, None))
  axes.invert_yaxis()
  return figure
