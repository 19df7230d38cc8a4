"""Taking the singing voice out of a mix. The instrumental is the caller's mix − vocals (SingSong §4.1).

What `--separator` may say:

    repet                            classical, needs nothing
    mdx:vocals.onnx                  KUIELab's MDX-Net, the paper's separator
    demucs:SOURCE                    Demucs through its package
    mel_band_roformer:FOLDER         Mel-Band RoFormer through its package
    isolated                         the true vocals, of songs that come with stems
    simulated:STEMS                  for tests: the demo songs' true vocals with artefacts added

Settings follow the source: `mdx:vocals.onnx,overlap=0.25`. docs/data.md says where weights come from. A
separator is one file here and a line in `_SEPARATORS`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from singsong_jax.audio.specs import construct, parse_spec
from singsong_jax.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """A piece of a song.

  Attributes:
    mix: float32 [samples], mono, full scale ±1; past the song's end zeros.
    song: the song's path or name, as far as a separator needs to know it.
    offset_seconds: where in the song the clip begins.
    vocals: the true vocals, float32 [samples], where the song comes with stems.
  """

  mix: np.ndarray
  sample_rate_hz: int
  song: str
  offset_seconds: float
  vocals: np.ndarray | None = None


class SourceSeparator(Protocol):
  """Finds the vocals in clips.

  Attributes:
    name: how it is called.
    batch_clips: how many clips a call should bring.
  """

  name: str
  batch_clips: int

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """The vocals of clips of one length and rate: float32 [clips, samples], at the mixes' level."""

  def describe(self) -> dict[str, Any]:
    """As JSON: all that the vocals depend on besides the clip; weights by content, not by path."""


_HERE = "singsong_jax.audio.separation"
_SEPARATORS = {
  "repet": f"{_HERE}.repet:RepetSeparator",
  "isolated": f"{_HERE}.isolated:IsolatedSeparator",
  "mdx": f"{_HERE}.mdx:MdxSeparator.from_pretrained",
  "demucs": f"{_HERE}.demucs:DemucsSeparator.from_pretrained",
  "mel_band_roformer": f"{_HERE}.mel_band_roformer:MelBandRoformerSeparator.from_pretrained",
  "simulated": f"{_HERE}.simulated:SimulatedSeparator",
}
_WITHOUT_SOURCE = ("repet", "isolated")


def get_separator(spec: str) -> SourceSeparator:
  """The separator of a spec, `name`, `name:SOURCE` or either with `,setting=value…`.

  Raises:
    InputError: an unknown name or setting, missing or unfit weights, a package that is not installed.
  """
  flag = f"--separator={spec}"
  name, source, settings = parse_spec(spec)
  if name not in _SEPARATORS:
    known = ", ".join(name if name in _WITHOUT_SOURCE else f"{name}:SOURCE" for name in _SEPARATORS)
    raise InputError(f"{flag}: it may be {known}{did_you_mean(name or spec, _SEPARATORS)}")
  if name in _WITHOUT_SOURCE and source:
    raise InputError(f"{flag}: {name} takes no source")
  if name not in _WITHOUT_SOURCE and not source:
    raise InputError(f"{flag}: {name} needs a source, {name}:SOURCE; docs/data.md says which")
  return construct(flag, _SEPARATORS[name], *([source] if source else []), **settings)


def check_rates(clips: Sequence[Clip], sample_rate_hz: int, who: str) -> None:
  """Raises InputError for a clip that does not have the only rate that `who` hears."""
  for clip in clips:
    if clip.sample_rate_hz != sample_rate_hz:
      raise InputError(f"{clip.song} has {clip.sample_rate_hz} Hz; {who} hears {sample_rate_hz}")
