"""A trained model as one call: a vocal goes in, an instrumental and a mix come out."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from singsong_jax.audio.io import check_rate
from singsong_jax.audio.mixing import measure_levels, mix, scaled_instrumental
from singsong_jax.audio.tracks import ArrayTrack
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference.job import Job
from singsong_jax.inference.models import DEFAULT_MODEL, Models, load_models
from singsong_jax.inference.output_folder import write_accompaniment
from singsong_jax.inference.settings import Settings
from singsong_jax.inference.vocals import Vocals, check_vocals


@dataclasses.dataclass(frozen=True)
class Accompaniment:
  """What `Accompanist.accompany` returns; waveforms at the rate and length of the input.

  With more than one sample both arrays have an axis of samples in front.

  Attributes:
    instrumental: float32 `[n]`, mono as the codec is.
    mix: float32 `[channels, n]`: vocals + instrumental, scaled as a whole where it would clip.
    details: JSON-able record of what was done.
  """

  instrumental: np.ndarray
  mix: np.ndarray
  details: dict[str, Any]


class Accompanist:
  """SingSong inference (§3.3, §6): semantic and coarse codes, then fine ones, then sound."""

  def __init__(self, models: Models):
    self._models = models

  @classmethod
  def from_checkpoint(
    cls,
    model_dir: str | os.PathLike = DEFAULT_MODEL,
    step: int | None = None,
    *,
    fine_model_dir: str | os.PathLike | None = None,
    skip_fine: bool = False,
  ) -> "Accompanist":
    """Loads a model directory; `models.load_models` tells of the arguments and of what is raised."""
    return cls(load_models(model_dir, step, fine_model_dir=fine_model_dir, skip_fine=skip_fine))

  @property
  def options(self) -> SamplingOptions:
    """What the model is best played with; the paper's, where its folder tells nothing."""
    return self._models.options

  def describe(self) -> dict[str, Any]:
    """JSON: the models and tokenisers it plays with."""
    return self._models.describe()

  def accompany(
    self,
    waveform: np.ndarray,
    sample_rate_hz: int,
    *,
    seed: int = 0,
    samples: int = 1,
    options: SamplingOptions | None = None,
    fine_options: SamplingOptions = Settings.fine_options,
    overlap_seconds: float | None = None,
    loudness_lufs: float | None = None,
  ) -> Accompaniment:
    """Makes the instrumental for a vocal, in memory.

    Args:
      waveform: vocals, float `[channels, n]`, 1 or 2 channels, full scale ±1; or `[n]`.
      sample_rate_hz: its rate.
      options: of semantic and coarse codes; None is what the model is best played with.
      seed, samples, fine_options, overlap_seconds, loudness_lufs: see `Settings`.

    Raises:
      InputError: vocals that are too short, silent, not finite, not floats or of more than two channels, or
        a setting that is out of range or takes more memory than there is.
    """
    settings = Settings(
      seed=seed,
      samples=samples,
      options=options or self.options,
      fine_options=fine_options,
      overlap_seconds=overlap_seconds,
      loudness_lufs=loudness_lufs,
    )
    waveform = np.atleast_2d(waveform)
    if waveform.dtype.kind != "f":
      raise InputError(f"the waveform is of {waveform.dtype}; give floats of full scale ±1")
    name = f"the waveform of shape {waveform.shape}"
    if waveform.ndim != 2:
      raise InputError(f"{name}: [samples] or [channels, samples] is expected")
    check_rate(sample_rate_hz, name)
    vocals = ArrayTrack(waveform, int(sample_rate_hz), name)
    job = Job(self._models, check_vocals(vocals), settings)
    codes = job.generate({})
    instrumentals, mixes, levels = [], [], []
    for sample in range(samples):
      instrumental = ArrayTrack(_joined(job.decode(codes, sample)), vocals.sample_rate_hz, "the instrumental")
      levels.append(measure_levels(vocals, instrumental, loudness_lufs))
      instrumentals.append(_joined(scaled_instrumental(instrumental, levels[-1]))[0])
      mixes.append(_joined(mix(vocals, instrumental, levels[-1])))
    details = job.details(levels)
    if samples == 1:
      return Accompaniment(instrumentals[0], mixes[0], details)
    return Accompaniment(np.stack(instrumentals), np.stack(mixes), details)

  def write(
    self, vocals: Vocals, output_dir: str | os.PathLike, settings: Settings = Settings()
  ) -> list[pathlib.Path]:
    """Makes the instrumental for a vocal of hours, in bounded memory, into a folder.

    Writes `instrumental.wav` and `mix.wav` (with several samples `instrumental_0.wav` …), `picture.png` and,
    last, `accompaniment.json`. A run that was killed goes on where it was when called with the same
    arguments again, and writes what it would have written.

    Args:
      vocals: from `check_vocals(FileTrack(path))`.

    Returns:
      The paths of what was written.

    Raises:
      InputError: a setting that is out of range or takes more memory than there is, or the folder cannot be
        written.
    """
    return write_accompaniment(Job(self._models, vocals, settings), output_dir, self._models.folder)


def _joined(blocks: Iterable[np.ndarray]) -> np.ndarray:
  return np.concatenate([*blocks], axis=-1)
