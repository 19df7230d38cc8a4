"""What the project asks of a semantic encoder, and how one is read from its file."""

import os
from typing import Protocol

import numpy as np

from singsong_jax.audio import fitted_file
from singsong_jax.semantics import logmel


class SemanticEncoder(Protocol):
  """Waveform → codes, at a fixed rate, without state from clip to clip.

  Attributes:
    name: for people and manifests.
    sample_rate_hz: of waveforms.
    frame_rate_hz: codes a second; hop = sample_rate_hz / frame_rate_hz samples.
    num_codes: size of the codebook.
  """

  name: str
  sample_rate_hz: int
  frame_rate_hz: float
  num_codes: int

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """float `[..., samples]` to int32 `[..., ceil(samples / hop)]`, padded on the right."""

  def save(self, path: str | os.PathLike) -> None:
    """Writes the file `load_semantic_encoder` reads."""

  def fingerprint(self) -> str:
    """SHA-256 (hex) of everything that codes depend on."""


# An encoder is one file in this folder and one entry here: kind → constructor from its file.
KINDS = {logmel.KIND: logmel.LogMelEncoder.from_file}


def load_semantic_encoder(path: str | os.PathLike) -> SemanticEncoder:
  """Reads a semantic encoder of any kind.

  Raises:
    InputError: no such file, or not a semantic encoder's.
  """
  return fitted_file.load_kind(path, KINDS, "semantic encoder")
