"""What the project asks of a semantic encoder, and how one is read from its file."""

import os
from typing import Protocol

import numpy as np

from singsong_jax.audio import fitted_file
from singsong_jax.audio.specs import Catalogue, Unfitted, fitted_already


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


# An encoder is one file in this folder and one entry here: kind → the class that `from_file` makes one of.
PUBLIC = {
  "hubert": "singsong_jax.semantics.hubert:HubertFeatures",
  "mert": "singsong_jax.semantics.hubert:MertFeatures",
  "muq": "singsong_jax.semantics.musicfm:MuqFeatures",
  "musicfm": "singsong_jax.semantics.musicfm:MusicFmFeatures",
  "w2v_bert_2": "singsong_jax.semantics.w2v_bert_2:W2vBert2Features",
}
KINDS = {
  "logmel": "singsong_jax.semantics.logmel:LogMelEncoder",
  "w2v_bert": "singsong_jax.semantics.w2v_bert:W2vBertEncoder",
  **dict.fromkeys(PUBLIC, "singsong_jax.semantics.pretrained:PretrainedEncoder"),
}
# What `--semantics` may say besides a path; see `audio/specs.py`.
EMBEDDED = ("w2v_bert",)
FITTED = {"logmel": "singsong_jax.semantics.logmel:LogMelRecipe"}
_CATALOGUE = Catalogue("semantics", KINDS, EMBEDDED, FITTED, PUBLIC)


def load_semantic_encoder(path: str | os.PathLike) -> SemanticEncoder:
  """Reads a semantic encoder of any kind.

  Raises:
    InputError: no such file, or not a semantic encoder's.
  """
  return fitted_file.load_kind(path, KINDS, "semantic encoder")


def semantic_encoder_or_unfitted(spec: str) -> SemanticEncoder | Unfitted:
  """What `--semantics=spec` stands for: a name, `kind:SOURCE` or a path; see `audio/specs.py`.

  Raises:
    InputError: it stands for nothing, or its file, its weights or a package is missing.
  """
  return _CATALOGUE.load(spec)


def semantic_encoder_from_spec(spec: str) -> SemanticEncoder:
  """As `semantic_encoder_or_unfitted`, but raises InputError for one that is yet to be fitted on songs."""
  return fitted_already(semantic_encoder_or_unfitted(spec), _CATALOGUE, spec)
