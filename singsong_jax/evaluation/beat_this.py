"""Beat This! (Foscarin et al. 2024) as a second opinion on beats: a network that was trained to hear them.

Its checkpoints (`final0.ckpt`, `small0.ckpt`) are those of github.com/CPJKU/beat_this.
"""

import os
import pathlib
from typing import Any

import numpy as np

from singsong_jax import storage
from singsong_jax.audio.public_weights import import_extra
from singsong_jax.errors import InputError
from singsong_jax.evaluation.musical import RATE_HZ, Truth, beat_f

_FLAG, _EXTRA = "--beat_this", "judges"


class BeatThis:
  """F-measure of the beats that it hears in an accompaniment.

  Args:
    checkpoint: a file; nothing is downloaded.

  Raises:
    InputError: no such file, the package is missing, or the file is none of its checkpoints.
  """

  name = "beat_f_beat_this"

  def __init__(self, checkpoint: str | os.PathLike):
    self._path = pathlib.Path(checkpoint)
    if not self._path.is_file():
      raise InputError(f"{_FLAG}={checkpoint} is not a file")
    torch = import_extra("torch", _EXTRA, _FLAG)
    inference = import_extra("beat_this.inference", _EXTRA, _FLAG)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
      self._track = inference.Audio2Beats(str(self._path), device=device, dbn=False)
    except Exception as error:  # pickle and zip files have many of their own
      reason = " ".join(str(error).split())[:300]
      raise InputError(f"{_FLAG}={checkpoint} is no checkpoint of Beat This!: {reason}") from error

  def __call__(self, instrumental: np.ndarray, vocals: np.ndarray, truth: Truth) -> float:
    """0 … 1, of float `[samples]` at `RATE_HZ`."""
    beats, _ = self._track(np.asarray(instrumental, np.float32), RATE_HZ)
    return beat_f(np.array(truth.beats_seconds), np.asarray(beats))

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "sha256": storage.sha256(self._path)}
