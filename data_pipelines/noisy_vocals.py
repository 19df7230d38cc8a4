"""The noise that hides the separator's traces (SingSong, §4.5), the same whoever adds it.

A tokeniser hears it at its own rate with σ = 0.01; tokenisers of one rate hear the same noise.
"""

import hashlib

import numpy as np

from data_pipelines.clip_records import ClipRecord
from data_pipelines.settings import Settings
from singsong_jax.audio.noise import add_noise
from singsong_jax.tokens.featurization import NOISE_SIGMA


def noisy_vocals(settings: Settings, clip: ClipRecord, draw: int) -> np.ndarray:
  """float32 `[samples]`: the clip's vocals plus white noise of σ = 0.01; another for each draw."""
  return add_noise(clip.vocals, NOISE_SIGMA["noisy"], noise_seed(settings.seed, clip.clip_id, draw))


def noise_seed(seed: int, clip_id: str, draw: int) -> int:
  """Depends on the clip and the draw, not on the worker or the order of work."""
  return int.from_bytes(hashlib.sha256(f"{seed}/{clip_id}/{draw}".encode()).digest()[:8], "big")
