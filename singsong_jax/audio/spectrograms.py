"""Spectrograms as pictures, all with the same colours for the same levels."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.signal

from singsong_jax import files

_FLOOR_DB, _CEILING_DB = -80.0, -20.0
_WINDOW_SECONDS = 0.046
_MAX_COLUMNS = 2000  # about as many as a picture has pixels


def plot_spectrogram(
  axis, title: str, waveform: np.ndarray, sample_rate_hz: int, max_hz: float = 8000.0
) -> Any:
  """Draws mono float `[samples]` up to `max_hz` into a matplotlib axis; gives the image, for colour bars."""
  window = min(round(_WINDOW_SECONDS * sample_rate_hz), len(waveform))
  hop = max(1, window // 4, len(waveform) // _MAX_COLUMNS)
  frequencies_hz, times_seconds, power = scipy.signal.spectrogram(
    waveform, sample_rate_hz, nperseg=window, noverlap=max(0, window - hop), scaling="spectrum"
  )
  rows = frequencies_hz <= max_hz
  level_db = 10 * np.log10(np.maximum(power[rows], 10 ** (_FLOOR_DB / 10)))
  extent = (times_seconds[0], times_seconds[-1], 0, frequencies_hz[rows][-1] / 1000)
  image = axis.imshow(
    level_db, vmin=_FLOOR_DB, vmax=_CEILING_DB, cmap="magma", aspect="auto", origin="lower", extent=extent
  )
  axis.set(title=title, ylabel="kHz", xlabel="seconds")
  return image


def draw_spectrograms(
  path: str | os.PathLike, columns: Mapping[str, Mapping[str, np.ndarray]], sample_rate_hz: int
) -> None:
  """Writes a PNG with a column for each codec, say, and in it one whole spectrogram under the other.

  Args:
    columns: name of the column → title → mono float `[samples]`. Columns may be of different lengths.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  height = max(map(len, columns.values()))
  figure = Figure(figsize=(max(11, 8 * len(columns)), 2.3 * height), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(height, len(columns), squeeze=False)
  for column, (name, rows) in zip(axes.T, columns.items()):
    for axis, (title, waveform) in zip(column, rows.items()):
      image = plot_spectrogram(axis, f"{name}, {title}", waveform, sample_rate_hz, sample_rate_hz / 2)
    for axis in column[len(rows) :]:
      axis.set_axis_off()
  figure.colorbar(image, ax=axes, label="dB", pad=0.01, aspect=60)
  with files.replacing(path) as temporary:
    figure.savefig(temporary, dpi=110)
