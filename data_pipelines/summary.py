"""What a job made, for people: `report.md` and `report.png`."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_pipelines.reports import SILENCE_DB, Report
from data_pipelines.settings import DataDir, Settings
from singsong_jax import storage
from singsong_jax.audio.code_usage import CodeUsage, usage_of_counts

_STEMS = {"instrumental": "tab:blue", "vocals": "tab:orange"}


def write(settings: Settings, data_dir: DataDir, manifest: dict, clips: Report, tokens: Report) -> None:
  """Writes both.

  Args:
    clips, tokens: what became of the two Beam stages' work.
  """
  storage.write_text(data_dir.report, _text(settings, manifest, clips, tokens))
  with storage.replacing(data_dir.picture) as temporary:
    _figure(settings, manifest, clips, tokens).savefig(temporary, dpi=100)


def _text(settings: Settings, manifest: dict, clips: Report, tokens: Report) -> str:
  songs, counts = manifest["counts"]["songs"], manifest["counts"]["clips"]
  rows = [
    ("songs found", songs["found"], ""),
    ("… used", songs["used"], _hours(clips.seconds)),
    ("… excluded by the list", songs["excluded"], ""),
    ("… unusable (dead_letter.jsonl)", songs["dead_lettered"], ""),
    (f"clips of {settings.window_seconds:g} s", counts["in"], _hours(counts["in"] * settings.window_seconds)),
  ]
  outcomes = {
    **{f"left out: {reason}": count for reason, count in sorted(counts["filtered"].items())},
    "failed (dead_letter.jsonl)": counts["dead_lettered"],
    "kept": counts["kept"],
  }
  outcomes |= {f"kept for {split}": entry["records"] for split, entry in manifest["splits"].items()}
  rows += [(f"… {name}", count, _share(count, counts["in"])) for name, count in outcomes.items()]
  lines = ["# What was prepared", "", "| | number | |", "|---|---:|---:|"]
  lines += [f"| {name} | {count:,} | {note} |" for name, count, note in rows]
  lines += ["", "![levels and codes](report.png)", "", "| codes | in use | perplexity |", "|---|---:|---:|"]
  for name, usage in _usages(tokens):
    lines.append(f"| {name} | {usage.share:.0%} | {usage.perplexity:,.0f} |")
  tokenizers = manifest["tokenizers"]
  lines += [
    "",
    f"Separator {manifest['job']['separator']['name']}, filter {settings.filter}, "
    f"codec {tokenizers['codec']['name']}, semantics {tokenizers['semantics']['name']}. "
    "Codes are of clean vocals and instrumentals.",
  ]
  return "\n".join(lines) + "\n"


def _hours(seconds: float) -> str:
  return f"{seconds / 3600:,.2f} h"


def _share(count: int, whole: int) -> str:
  return f"{count / whole:.1%}" if whole else ""


def _usages(tokens: Report) -> list[tuple[str, CodeUsage]]:
  """Name and usage of every level."""
  named = []
  for name, counts in sorted(tokens.codes.items(), reverse=True):  # semantic before acoustic
    several = len(counts) > 1
    for level, usage in enumerate(usage_of_counts(counts), 1):
      named.append((f"{name} level {level}" if several else name, usage))
  return named


def _figure(settings: Settings, manifest: dict, clips: Report, tokens: Report) -> Figure:
  figure = Figure(figsize=(11, 7), layout="constrained")
  FigureCanvasAgg(figure)
  levels, outcome, codes = figure.subplot_mosaic([["levels", "levels"], ["outcome", "codes"]]).values()
  _draw_levels(levels, settings, clips)
  _draw_outcome(outcome, manifest["counts"]["clips"])
  _draw_codes(codes, tokens)
  return figure


def _draw_levels(axes, settings: Settings, clips: Report) -> None:
  """Histograms of both stems' peak RMS, in steps of 1 dB; silence is left out and told in the legend."""
  for stem, color in _STEMS.items():
    counts = clips.levels.get(stem, {})
    heard = sorted(level for level in counts if level > SILENCE_DB)
    label = f"{stem} ({counts.get(SILENCE_DB, 0):,} silent)"
    axes.bar(
      [level + 0.5 for level in heard],
      [counts[level] for level in heard],
      1,
      color=color,
      alpha=0.5,
      label=label,
    )
  if settings.filter == "singsong":
    axes.axvline(
      settings.min_instrumental_db, color="tab:blue", linestyle="--", label="least for instrumentals"
    )
  axes.set(
    title="Levels of all clips, before the filter",
    xlabel="peak RMS (50 ms), dB re full scale",
    ylabel="clips",
  )
  axes.legend()


def _draw_outcome(axes, counts: dict) -> None:
  bars = {"kept": counts["kept"], **counts["filtered"], "failed": counts["dead_lettered"]}
  drawn = axes.barh(list(bars), list(bars.values()), color="tab:blue")
  axes.bar_label(drawn, [f" {count:,}" for count in bars.values()])
  axes.set(title="What became of the clips", xlim=(0, 1.25 * max(1, *bars.values())))
  axes.invert_yaxis()


def _draw_codes(axes, tokens: Report) -> None:
  names, usages = zip(*_usages(tokens), strict=True)
  labels = [name.replace("acoustic level ", "").replace("semantic", "S") for name in names]
  axes.bar(labels, [usage.share for usage in usages], color="tab:blue", label="share in use")
  sizes = [len(level) for _, counts in sorted(tokens.codes.items(), reverse=True) for level in counts]
  shares = [usage.perplexity / size for usage, size in zip(usages, sizes)]
  axes.plot(labels, shares, "o", color="tab:orange", label="perplexity / number of codes")
  axes.set(title="Use of the codes", xlabel="S: semantic codes; levels of acoustic ones", ylim=(0, 1.05))
  axes.legend(loc="lower right")
