"""What the project asks of an audio codec, and how one is read from its file."""

import os
from typing import Protocol

import numpy as np

from singsong_jax.audio import fitted_file
from singsong_jax.audio.specs import Catalogue, Unfitted, fitted_already
from singsong_jax.errors import InputError


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


def check_codes(codes: np.ndarray, codec: Codec) -> None:
  """Raises InputError where `codes` `[..., levels]` are more levels than `codec` has, or out of its range."""
  if not 1 <= codes.shape[-1] <= codec.num_levels:
    raise InputError(f"codes have {codes.shape[-1]} levels; this codec decodes 1 … {codec.num_levels}")
  if codes.size and not 0 <= codes.min() <= codes.max() < codec.num_codes:
    raise InputError(f"codes span {codes.min()} … {codes.max()}; this codec's are 0 … {codec.num_codes - 1}")


# A codec is one file in this folder and one entry here: kind → the class that `from_file` makes one of.
_PUBLIC_WEIGHTS = {
  "dac": "singsong_jax.codecs.dac:DacCodec",
  "dac_torch": "singsong_jax.codecs.dac:DacTorchCodec",
  "encodec": "singsong_jax.codecs.encodec:EncodecCodec",
  "snac": "singsong_jax.codecs.snac:SnacCodec",
}
KINDS = {
  "soundstream": "singsong_jax.codecs.soundstream:SoundStreamCodec",
  "mdct": "singsong_jax.codecs.mdct:MdctCodec",
  **_PUBLIC_WEIGHTS,
}
# What `--codec` may say besides a path; see `audio/specs.py`.
EMBEDDED = ("soundstream",)
FITTED = {"mdct": "singsong_jax.codecs.mdct:MdctSettings"}
PUBLIC = _PUBLIC_WEIGHTS
_CATALOGUE = Catalogue("codec", KINDS, EMBEDDED, FITTED, PUBLIC)


def load_codec(path: str | os.PathLike) -> Codec:
  """Reads a codec of any kind.

  Raises:
    InputError: no such file, or not a codec's.
  """
  return fitted_file.load_kind(path, KINDS, "codec")


def codec_or_unfitted(spec: str) -> Codec | Unfitted:
  """What `--codec=spec` stands for: a name, `kind:SOURCE` or a path; see `audio/specs.py`.

  Raises:
    InputError: it stands for nothing, or its file, its weights or a package is missing.
  """
  return _CATALOGUE.load(spec)


def codec_from_spec(spec: str) -> Codec:
  """As `codec_or_unfitted`, but raises InputError for a codec that is yet to be fitted on songs."""
  return fitted_already(codec_or_unfitted(spec), _CATALOGUE, spec)
