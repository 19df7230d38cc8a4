"""One picture of one accompaniment: what went in, what came out, and how the model learned."""

import json
import os
import pathlib

import numpy as np

from singsong_jax import files
from singsong_jax.audio.spectrograms import plot_spectrogram


def draw(
  path: str | os.PathLike,
  tracks: dict[str, np.ndarray],
  sample_rate_hz: int,
  model_dir: str | os.PathLike,
  chance_nats: float,
) -> None:
  """Writes spectrograms of `tracks` (name → mono `[samples]`) and the loss curve of `model_dir` as PNG.

  A model that was exported has no curve.

  Args:
    chance_nats: loss of a model that knows which codes are legal, and nothing else.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  metrics = pathlib.Path(model_dir) / "metrics"
  histories = {split: read_history(metrics / f"{split}.jsonl") for split in ("train", "eval")}
  panels = len(tracks) + any(histories.values())
  figure = Figure(figsize=(11, 2.3 * panels), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
  for axis, (name, waveform) in zip(axes, tracks.items()):
    image = plot_spectrogram(axis, name, waveform, sample_rate_hz)
    figure.colorbar(image, ax=axis, label="dB", pad=0.01)
  if any(histories.values()):
    _loss_curve(axes[-1], histories, chance_nats)
  with files.replacing(path) as temporary:
    figure.savefig(temporary, dpi=110)


def _loss_curve(axis, histories: dict[str, list[dict]], chance_nats: float) -> None:
  axis.set(title="loss", xlabel="step", ylabel="nats per token")
  for (split, history), style in zip(histories.items(), ("-", "o-"), strict=True):
    if history:
      axis.plot([row["step"] for row in history], [row["loss"] for row in history], style, label=split)
  label = f"{chance_nats:.2f}: knows only which codes are legal"
  axis.axhline(chance_nats, color="grey", linestyle=":", label=label)
  axis.legend(loc="upper right")
  axis.grid(alpha=0.3)


def read_history(path: pathlib.Path) -> list[dict]:
  """The rows of a metrics file, one JSON object a line; none if there is no such file."""
  if not path.exists():
    return []
  lines = path.read_text().splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith("\n")]  # a killed run leaves half a line
