"""No separation: the vocals as they were recorded, for data sets that have them (SingSong §4.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from singsong_jax.audio.separation.base import Clip
from singsong_jax.errors import InputError


class IsolatedSeparator:
  """Gives the true vocals back."""

  name = "isolated"
  batch_clips = 1

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """Raises InputError for a song that came without stems."""
    for clip in clips:
      if clip.vocals is None:
        raise InputError(
          f"{clip.song} came without stems: --separator=isolated needs them, from musdb:… or a manifest"
        )
    return np.stack([clip.vocals for clip in clips])

  def describe(self) -> dict[str, Any]:
    return {"name": self.name}
