"""Stage 3: a clip → vocals and instrumental = mix − vocals, both at 44.1 kHz (SingSong, §4.1)."""

import dataclasses

import numpy as np

from data_pipelines.settings import Settings
from singsong_jax.audio.separation import Clip, SourceSeparator, get_separator
from singsong_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stems:
  """A clip taken apart; float32 `[samples]` each, and their sum is the mix.

  Attributes:
    clip_id: `<song id>@<offset in seconds>`.
  """

  clip_id: str
  song_id: str
  offset_seconds: float
  sample_rate_hz: int
  vocals: np.ndarray
  instrumental: np.ndarray


def make_separator(settings: Settings) -> SourceSeparator:
  """The separator of the settings.

  Raises:
    InputError: an unknown one, or one that needs `--stems`, or does not and got it.
  """
  simulated = settings.separator == "simulated"
  if simulated != (settings.stems is not None):
    raise InputError("--stems and --separator=simulated need each other: give both or neither")
  return get_separator(settings.separator, **({"stems_dir": settings.stems} if simulated else {}))


def separate(separator: SourceSeparator, clip: Clip) -> Stems:
  """Separates one clip.

  Raises:
    InputError: the separator returned something else than finite vocals of the clip's length.
  """
  vocals = separator.separate(clip)
  if vocals.shape != clip.mix.shape or not np.isfinite(vocals).all():
    raise InputError(
      f"separator {separator.name!r} gave vocals of shape {vocals.shape} for a mix of {clip.mix.shape}, "
      "or samples that are not finite"
    )
  return Stems(
    clip_id=clip_id(clip),
    song_id=clip.song,
    offset_seconds=clip.offset_seconds,
    sample_rate_hz=clip.sample_rate_hz,
    vocals=vocals,
    instrumental=clip.mix - vocals,
  )


def clip_id(clip: Clip) -> str:
  """`<song id>@<offset in seconds>`."""
  return f"{clip.song}@{clip.offset_seconds:g}"
