"""The codec and semantic encoder that belong to a model, kept in its directory."""

import dataclasses
import os
import pathlib
import shutil

from singsong_jax import files
from singsong_jax.codecs.base import Codec, load_codec
from singsong_jax.errors import InputError
from singsong_jax.semantics.base import SemanticEncoder, load_semantic_encoder
from singsong_jax.tokens.featurization import SequenceLayout

FOLDER = "tokenizers"  # in a data directory and in a model directory
_FILES = ("codec.npz", "semantics.npz")


@dataclasses.dataclass(frozen=True)
class Tokenizers:
  """Both tokenisers of one model."""

  codec: Codec
  semantics: SemanticEncoder

  def heard_through(self, streams: str) -> Codec:
    """What makes sound of a target of those streams: the codec, or what semantic codes alone are heard with.

    Raises:
      InputError: there are semantic codes alone, and their encoder cannot play them.
    """
    if "a" in streams:
      return self.codec
    if not hasattr(self.semantics, "decode"):
      raise InputError(
        f"the model makes semantic codes alone, which {self.semantics.name} cannot play; those of logmel can "
        "be heard, or train one that makes acoustic codes, too: --features=s_sa"
      )
    return self.semantics  # type: ignore[return-value]

  def check(self, layout: SequenceLayout) -> None:
    """Raises InputError where rates or code book sizes differ from what the model was built for.

    The semantic encoder may hear another sample rate than the codec, whose the model's is.
    """
    geometry, vocabulary = layout.geometry, layout.vocabulary
    facts = {
      "codec sample rate in Hz": (self.codec.sample_rate_hz, geometry.sample_rate_hz),
      "codec frames per second": (self.codec.frame_rate_hz, geometry.acoustic_rate_hz),
      "codec levels": (self.codec.num_levels, geometry.num_acoustic_levels),
      "codec codes per level": (self.codec.num_codes, vocabulary.num_acoustic_codes),
      "semantic frames per second": (self.semantics.frame_rate_hz, geometry.semantic_rate_hz),
      "semantic codes": (self.semantics.num_codes, vocabulary.num_semantic_codes),
    }
    for what, (found, expected) in facts.items():
      if found != expected:
        raise InputError(f"{what}: the tokeniser has {found}, the model was built for {expected}")


def load_tokenizers(directory: str | os.PathLike) -> Tokenizers:
  """Loads `codec.npz` and `semantics.npz` from `directory`. Raises InputError where one is missing."""
  codec_path, semantics_path = (pathlib.Path(directory) / name for name in _FILES)
  return Tokenizers(load_codec(codec_path), load_semantic_encoder(semantics_path))


def ship_tokenizers(source: str | os.PathLike, model_dir: str | os.PathLike) -> Tokenizers:
  """Copies the tokenisers of a data directory into `model_dir`, which then needs nothing else.

  Raises:
    InputError: `model_dir` already has other ones: its tokens would change their meaning.
  """
  tokenizers = load_tokenizers(source)
  target = pathlib.Path(model_dir) / FOLDER
  if all((target / name).exists() for name in _FILES):
    _check_same(tokenizers, load_tokenizers(target), source, target)
    return tokenizers
  for name in _FILES:
    with files.replacing(target / name) as temporary:
      shutil.copyfile(pathlib.Path(source) / name, temporary)
  return tokenizers


def _check_same(new: Tokenizers, old: Tokenizers, source, target) -> None:
  for part in ("codec", "semantics"):
    prints = [getattr(tokenizers, part).fingerprint() for tokenizers in (new, old)]
    if prints[0] != prints[1]:
      raise InputError(
        f"{source} holds another {part} ({prints[0][:12]}) than {target} ({prints[1][:12]}), with which "
        "this model was trained; give the data it was trained on, or another --model_dir"
      )
