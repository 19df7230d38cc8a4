"""Sizes of codes in gin: `gin/codec/` and `gin/semantics/` bind them, `gin/system/` hands them on."""

import gin

from singsong_jax.tokens.fine import FineLayout
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry

gin.external_configurable(Geometry)
gin.external_configurable(Vocabulary)


@gin.configurable
def fine_layout(
  vocabulary: Vocabulary = Vocabulary(), geometry: Geometry = Geometry(), chunk_seconds: float = 3.0
) -> FineLayout:
  """The fine stage's chunks of the codec that `vocabulary` and `geometry` are made for.

  Raises:
    ValueError, InputError: as `FineLayout`.
  """
  return FineLayout(
    num_acoustic_codes=vocabulary.num_acoustic_codes,
    num_levels=geometry.num_acoustic_levels,
    num_coarse_levels=vocabulary.num_coarse_levels,
    acoustic_rate_hz=geometry.acoustic_rate_hz,
    chunk_seconds=chunk_seconds,
  )
