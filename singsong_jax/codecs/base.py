"""What the project asks of an audio codec, and how one is read from its file."""

import os
from typing import Protocol

import numpy as np

from singsong_jax.audio import fitted_file
from singsong_jax.codecs import mdct


class Codec(Protocol):
  """Waveform ⇄ codes, at a fixed rate, without state from clip to clip.

  Attributes:
    name: for people and manifests.
    sample_rate_hz: of waveforms.
    frame_rate_hz: frames of codes a second; hop = sample_rate_hz / frame_rate_hz samples.
    num_levels: codes a frame, coarse to fine.
    num_codes: size of each level's codebook.
    context_frames: a frame's samples depend on so many frames before and after it.
  """

  name: str
  sample_rate_hz: int
  frame_rate_hz: float
  num_levels: int
  num_codes: int
  context_frames: int

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """float `[..., samples]` to int32 `[..., ceil(samples / hop), num_levels]`, padded on the right."""

  def decode(self, codes: np.ndarray, first_frame: int = 0) -> np.ndarray:
    """int `[..., frames, levels ≤ num_levels]` to float32 `[..., frames · hop]`.

    Args:
      first_frame: place of `codes` in a longer stream. Pieces of one, decoded with `context_frames` more on
        both sides which are then cut off, make the waveform of the whole.
    """

  def save(self, path: str | os.PathLike) -> None:
    """Writes the file `load_codec` reads."""

  def fingerprint(self) -> str:
    """SHA-256 (hex) of everything that codes depend on."""


# A codec is one file in this folder and one entry here: kind → constructor from its file.
KINDS = {mdct.KIND: mdct.MdctCodec.from_file}


def load_codec(path: str | os.PathLike) -> Codec:
  """Reads a codec of any kind.

  Raises:
    InputError: no such file, or not a codec's.
  """
  return fitted_file.load_kind(path, KINDS, "codec")
