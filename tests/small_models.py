"""The smallest SingSong that works: 1 s windows, 16 codes a book."""

import pathlib
from collections.abc import Sequence

import numpy as np

from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.semantics.logmel import fit_logmel_encoder
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry

CODES = 16


def make_system(**changes) -> SingSong:
  network = EncoderDecoderConfig(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dtype="float32",
  )
  vocabulary = Vocabulary(num_semantic_codes=CODES, num_acoustic_codes=CODES)
  settings = {"network": network, "vocabulary": vocabulary, "geometry": Geometry(window_seconds=1)}
  return SingSong(**settings | changes)


def fit_tokenizers(clips: Sequence[np.ndarray], folder: pathlib.Path) -> None:
  """Writes those of `make_system` into `folder`."""
  fit_mdct_codec(clips, settings=MdctSettings(num_codes=CODES, sweep_seconds=1)).save(folder / "codec.npz")
  fit_logmel_encoder(clips, num_codes=CODES).save(folder / "semantics.npz")
