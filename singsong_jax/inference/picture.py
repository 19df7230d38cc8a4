"""One picture of one accompaniment: what went in, what came out, and how the model learned."""

import json
import math
import os
import pathlib

import numpy as np
import scipy.signal

from singsong_jax import files

_FLOOR_DB = -80.0
_MAX_HZ = 8000
_MAX_COLUMNS = 2000  # about as many as the picture has pixels


def draw(
  path: str | os.PathLike,
  tracks: dict[str, np.ndarray],
  sample_rate_hz: int,
  model_dir: str | os.PathLike,
) -> None:
  """Writes spectrograms of `tracks` (name → mono `[samples]`) and the loss curve of `model_dir` as PNG."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(11, 2.3 * (len(tracks) + 1)), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(len(tracks) + 1, 1)
  for axis, (name, waveform) in zip(axes, tracks.items()):
    _spectrogram(axis, name, waveform, sample_rate_hz)
  _loss_curve(axes[-1], pathlib.Path(model_dir) / "metrics")
  with files.replacing(path) as temporary:
    figure.savefig(temporary, dpi=110)


def _spectrogram(axis, name: str, waveform: np.ndarray, sample_rate_hz: int) -> None:
  window = min(2048, len(waveform))
  hop = max(1, window // 4, len(waveform) // _MAX_COLUMNS)
  frequencies_hz, times_seconds, power = scipy.signal.spectrogram(
    waveform, sample_rate_hz, nperseg=window, noverlap=max(0, window - hop), scaling="spectrum"
  )
  rows = frequencies_hz <= _MAX_HZ
  level_db = 10 * np.log10(np.maximum(power[rows], 10 ** (_FLOOR_DB / 10)))
  extent = (times_seconds[0], times_seconds[-1], 0, frequencies_hz[rows][-1] / 1000)
  image = axis.imshow(
    level_db, vmin=_FLOOR_DB, vmax=-20, cmap="magma", aspect="auto", origin="lower", extent=extent
  )
  axis.figure.colorbar(image, ax=axis, label="dB", pad=0.01)
  axis.set(title=name, ylabel="kHz", xlabel="seconds")


def _loss_curve(axis, metrics_dir: pathlib.Path) -> None:
  axis.set(title="loss", xlabel="step", ylabel="nats per token")
  for split, style in (("train", "-"), ("eval", "o-")):
    history = read_history(metrics_dir / f"{split}.jsonl")
    if history:
      axis.plot([row["step"] for row in history], [row["loss"] for row in history], style, label=split)
  axis.axhline(math.log(1024), color="grey", linestyle=":", label="ln 1024: knows only the legal block")
  axis.legend(loc="upper right")
  axis.grid(alpha=0.3)


def read_history(path: pathlib.Path) -> list[dict]:
  """The rows of a metrics file, one JSON object a line; none if there is no such file."""
  if not path.exists():
    return []
  lines = path.read_text().splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith("\n")]  # a killed run leaves half a line
