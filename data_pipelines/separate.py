"""Stage 3: clips → vocals and instrumentals = mix − vocals, both at 44.1 kHz (SingSong, §4.1)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from singsong_jax.audio.separation.base import Clip, SourceSeparator
from singsong_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stems:
  """A clip taken apart; float32 `[samples]` each, and their sum is the mix.

  Attributes:
    clip: what was taken apart.
  """

  clip: Clip
  vocals: np.ndarray
  instrumental: np.ndarray


def separate(separator: SourceSeparator, clips: Sequence[Clip]) -> list[Stems]:
  """Separates clips of one length.

  Raises:
    InputError: the separator returned something else than finite vocals of the clips' length.
  """
  vocals = separator.separate(clips)
  expected = (len(clips), *clips[0].mix.shape)
  if vocals.shape != expected or not np.isfinite(vocals).all():
    raise InputError(
      f"separator {separator.name!r} gave vocals of shape {vocals.shape} for mixes of {expected}, "
      "or samples that are not finite"
    )
  return [Stems(clip=clip, vocals=voice, instrumental=clip.mix - voice) for clip, voice in zip(clips, vocals)]


def clip_id(clip: Clip) -> str:
  """`<song id>@<offset in seconds>`."""
  return f"{clip.song}@{clip.offset_seconds:g}"
