"""One vocal, one model, one set of settings: from windows of the voice to the instrumental's sound."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import singsong_jax
from singsong_jax.audio.mixing import Levels
from singsong_jax.inference.generation import MAX_ROWS, CoarseStage, FineStage
from singsong_jax.inference.memory import check_samples
from singsong_jax.inference.models import Models
from singsong_jax.inference.progress import StageTimes
from singsong_jax.inference.rendering import decode
from singsong_jax.inference.settings import Settings
from singsong_jax.inference.token_store import TokenStore
from singsong_jax.inference.vocals import Vocals
from singsong_jax.inference.windows import CodeStream, SlidingWindows
from singsong_jax.tokens.featurization import NOISE_SIGMA


class Job:
  """See the module's docstring. Holds no audio and no tokens.

  Raises:
    InputError: settings that this model or this machine cannot do.
  """

  def __init__(self, models: Models, vocals: Vocals, settings: Settings):
    self.vocals = vocals
    self.settings = settings
    self._models = models
    self._system = models.coarse.system
    self._windows = SlidingWindows.make(self._system.target_layout, settings.overlap_seconds)
    self._times = {name: StageTimes() for name in ("semantic_and_coarse", "fine", "decoding")}
    check_samples(settings.samples, self._generation_bytes)

  def _generation_bytes(self, samples: int) -> int:
    streams = 1 if self.settings.options.guidance_scale == 1 else 2
    needed = [self._system.generation_bytes(streams * samples)]
    if self._models.fine:
      needed.append(self._models.fine.system.generation_bytes(max(MAX_ROWS, samples)))
    return max(needed)

  def identity(self) -> dict[str, Any]:
    """JSON: everything the tokens depend on, the libraries and the machine's kind among it."""
    settings = self.settings
    return {
      **self._models.describe(),
      "vocals_sha256": self.vocals.sha256,
      "seed": settings.seed,
      "samples": settings.samples,
      "sampling": dataclasses.asdict(settings.options),
      "fine_sampling": dataclasses.asdict(settings.fine_options) if self._models.fine else None,
      "overlap_seconds": self._windows.overlap_seconds,
      "noise_sigma": NOISE_SIGMA[self._system.vocals],
      "rows_refined_at_once": MAX_ROWS,
      "versions": {"singsong_jax": singsong_jax.__version__, "jax": jax.__version__},
      "device": jax.devices()[0].device_kind,
    }

  def generate(self, store: TokenStore) -> CodeStream:
    """Acoustic codes `[samples, frames, levels]` that cover the vocal; what `store` has already is used."""
    geometry = self._system.input_layout.geometry
    starts_seconds = [start / geometry.sample_rate_hz for start in self._starts]
    stage = CoarseStage(self._models, self._windows, self.settings, self._times["semantic_and_coarse"])
    heard = {
      rate_hz: self.vocals.windows(starts_seconds, geometry.window_seconds, rate_hz)
      for rate_hz in stage.rates_hz
    }
    windows = (dict(zip(heard, waveforms)) for waveforms in zip(*heard.values()))
    codes = stage.run(windows, len(starts_seconds), store)
    if not self._models.fine:
      return codes
    hop = geometry.window_samples // geometry.acoustic_frames
    frames = -(-self.vocals.samples_at(geometry.sample_rate_hz) // hop)
    return FineStage(self._models.fine, self.settings, self._times["fine"]).run(codes, frames, store)

  @property
  def _starts(self) -> list[int]:
    rate_hz = self._system.input_layout.geometry.sample_rate_hz
    return self._windows.starts(self.vocals.samples_at(rate_hz))

  @property
  def chance_nats(self) -> float:
    """Loss per token of a model that knows which codes are legal, and nothing else."""
    return float(np.log(self._system.target_layout.block_sizes).mean())

  def decode(self, codes: CodeStream, sample: int) -> Iterator[np.ndarray]:
    """Blocks float32 `[1, n]`, at the rate and length of the vocal."""
    with self._times["decoding"].measure(self.vocals.seconds / self.settings.samples):
      yield from decode(self._models.codec, codes, sample, self.vocals)

  def details(self, levels: Sequence[Levels]) -> dict[str, Any]:
    """JSON: what was done, with the levels of every sample."""
    return self.identity() | {
      "vocals": self.vocals.track.name,
      "model_dir": str(self._models.folder),
      "sample_rate_hz": self.vocals.sample_rate_hz,
      "seconds": self.vocals.seconds,
      "windows": len(self._starts),
      "loudness_lufs": self.settings.loudness_lufs,
      "levels": [dataclasses.asdict(level) for level in levels],
      "stages": {name: times.report() for name, times in self._times.items()},
    }
