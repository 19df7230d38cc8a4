"""The paper's tables and figures from the cells of a sweep that have been trained and evaluated (SingSong
Tables 1, 2, Figures 3, 5).

Of each cell's folder are read

    evaluation/results.json    what `singsong_jax.evaluate --output_dir=CELL/evaluation` wrote: the row of the
    table evaluation/run.json        the step of the model that was evaluated
    metrics/eval.jsonl         `fad_…` and `nll_…` of `FadEarlyStopping`: the curves

What is not there stays blank. Figures 4 and 6 are those of `listening.report`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.sweeps import evaluations, status
from singsong_jax.sweeps.grid import Cell

COLUMNS = ("steps", "fad_isolated", "fad_separated", "fad_gap", "nll_isolated", "nll_separated")
_HEADINGS = ("Steps", "FADi", "FADs", "Δ", "NLLi", "NLLs")
_MEASURED = {
  "songs": "digest",
  "separator": "separator",
  "seed": "seed",
  "sampling": "options",
}  # of run.json
_CURVES = {  # figure → (title, scalars)
  "figure_3": ("Fréchet distance by step", ("fad_isolated", "fad_separated")),
  "figure_5": ("Negative log-likelihood by step, nats per coarse code", ("nll_isolated", "nll_separated")),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A cell's line of the table; None where nothing was measured.

  Attributes:
    embedding: of its distances.
    clips: how many they are of.
    measured: by what and on what, for which they must be the same to be compared.
    curve: the training's records that have distances or likelihoods.
  """

  name: str
  embedding: str | None = None
  clips: int | None = None
  measured: dict[str, Any] = dataclasses.field(default_factory=dict)
  steps: int | None = None
  fad_isolated: float | None = None
  fad_separated: float | None = None
  nll_isolated: float | None = None
  nll_separated: float | None = None
  curve: tuple[dict, ...] = ()

  @property
  def fad_gap(self) -> float | None:
    if self.fad_isolated is None or self.fad_separated is None:
      return None
    return self.fad_isolated - self.fad_separated


def row_of(cell: Cell) -> Row:
  """Reads a cell's folder. Raises InputError for results that are damaged."""
  curve = [
    record
    for record in status.records(cell.model_dir / "metrics" / "eval.jsonl")
    if any(name.startswith(("fad_", "nll_i", "nll_separated")) for name in record)
  ]
  folder = cell.model_dir / evaluations.FOLDER
  if not (folder / evaluations.RESULT).exists():
    return Row(name=cell.name, curve=tuple(curve))
  try:
    table = files.read_json(folder / evaluations.RESULT)
    found = {row["system"]: row for row in table["rows"]}
    isolated, separated = found.get("isolated", {}), found.get("separated", {})
    run = files.read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    first = next(iter(found.values()))
    return Row(
      name=cell.name,
      embedding=first["embedding"],
      clips=first.get("clips"),
      measured={
        "embedding": table.get("embedding", first["embedding"]),
        **{name: run.get(key) for name, key in _MEASURED.items()},
      },
      steps=run.get("model", {}).get("step"),  # none where instrumentals were evaluated that were there
      fad_isolated=isolated.get("frechet"),
      fad_separated=separated.get("frechet"),
      nll_isolated=isolated.get("nll"),
      nll_separated=separated.get("nll"),
      curve=tuple(curve),
    )
  except (KeyError, TypeError, StopIteration) as error:
    raise InputError(f"{folder}: this is not what `singsong_jax.evaluate` writes: {error!r}") from error


def markdown(rows: Sequence[Row]) -> str:
  """Table 2, of which Table 1 is a part."""
  lines = [
    f"| cell | {' | '.join(_HEADINGS)} | clips | embedding |",
    f"|---|{'---:|' * len(COLUMNS)}---:|---|",
  ]
  for row in rows:
    numbers = " | ".join(_shown(getattr(row, column)) for column in (*COLUMNS, "clips"))
    lines.append(f"| {row.name} | {numbers} | {row.embedding or ''} |")
  measured = sum(row.embedding is not None for row in rows)
  lines += ["", f"{measured} of {len(rows)} cells have been evaluated."]
  known = [row.measured for row in rows if row.embedding]
  if differing := [
    name for name in ("embedding", *_MEASURED) if len({json.dumps(m[name]) for m in known}) > 1
  ]:
    lines.append(f"They were not measured alike ({', '.join(differing)} differ): do not compare.")
  return "\n".join(lines) + "\n"


def write(rows: Sequence[Row], folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes `table.md`, `.csv`, `.json`, and `figure_3.png`, `figure_5.png`; returns their paths."""
  files.make_folder(folder)
  paths = [folder / f"table.{suffix}" for suffix in ("md", "csv", "json")]
  files.write_text(paths[0], markdown(rows))
  columns = (*COLUMNS, "clips", "embedding")
  lines = ([row.name, *(getattr(row, name) for name in columns)] for row in rows)
  files.write_text(paths[1], files.to_csv(["cell", *columns], lines))
  files.write_text(paths[2], json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
  for name, (title, scalars) in _CURVES.items():
    paths.append(folder / f"{name}.png")
    with files.replacing(paths[-1]) as temporary:
      _figure(rows, title, scalars).savefig(temporary, dpi=100)
  return paths


def _figure(rows: Sequence[Row], title: str, scalars: Sequence[str]) -> Figure:
  """A colour for each cell; isolated vocals as a line, separated ones dashed."""
  figure = Figure(figsize=(9, 5), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  for number, row in enumerate(rows):
    for scalar, line in zip(scalars, ("-", "--")):
      points = [(record["step"], record[scalar]) for record in row.curve if scalar in record]
      if points:
        label = row.name if line == "-" else None
        axes.plot(*zip(*points), line, marker="o", markersize=3, color=f"C{number}", label=label)
  if axes.lines:
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
  else:
    axes.text(0.5, 0.5, "no cell has such records yet", ha="center", transform=axes.transAxes)
  axes.set(title=f"{title}: isolated vocals ——, separated - -", xlabel="step")
  axes.grid(alpha=0.3)
  return figure


def _shown(value: float | int | None) -> str:
  if value is None:
    return ""
  return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
