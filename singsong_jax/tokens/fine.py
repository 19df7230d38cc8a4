"""The fine stage's sequence: 3 s of coarse codes, then the fine codes that refine them (AudioLM's stage 3).

With the paper's sizes a chunk is 150 frames × 12 levels, and `frame:level` stands where it does here:

    coarse, given      0:0 0:1 0:2 0:3   1:0 1:1 1:2 1:3   …  149:3              positions    0 …  599
    fine, predicted    0:4 0:5 …  0:11   1:4 1:5 …  1:11   …  149:4 …  149:11    positions  600 … 1799

    id      0                      pad, and BOS: the first decoder input; never produced
    1 + 1024·q … 1024·(q + 1)      level q, code c → 1 + 1024·q + c               12 × 1024 + 1 = 12,289 ids

At position 600 + u the ids of level 4 + (u mod 8) are legal. AudioLM gives the order and the 3 s; that one
id serves as pad and as BOS is a choice.
"""

import dataclasses
import functools

import numpy as np

from singsong_jax.errors import InputError
from singsong_jax.tokens import interleave
from singsong_jax.tokens.vocabulary import Block, Vocabulary, by_level, codes_to_ids, ids_to_codes
from singsong_jax.tokens.windows import Geometry, whole_frames

BOS_ID = 0  # of this vocabulary; SingSong's own is another one


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineLayout:
  """Sizes of a chunk's sequence, and the way from codes to ids and back.

  Attributes:
    num_acoustic_codes: of every level.
    num_levels: of the codec.
    num_coarse_levels: how many of them are given.
    acoustic_rate_hz: frames per second.
    chunk_seconds: what is refined at once.

  Raises:
    ValueError: a chunk is not a whole number of frames.
    InputError: no fine level is left.
  """

  num_acoustic_codes: int = 1024
  num_levels: int = 12
  num_coarse_levels: int = 4
  acoustic_rate_hz: float = 50.0
  chunk_seconds: float = 3.0

  def __post_init__(self):
    whole_frames(self.chunk_seconds, self.acoustic_rate_hz, "acoustic_rate_hz")
    if not 1 <= self.num_coarse_levels < self.num_levels:
      raise InputError(
        f"num_coarse_levels is {self.num_coarse_levels}; with num_levels={self.num_levels} it must be in "
        f"1 … {self.num_levels - 1}"
      )

  @property
  def vocabulary_size(self) -> int:
    return 1 + self.num_levels * self.num_acoustic_codes

  @property
  def frames(self) -> int:
    """Acoustic frames in a chunk: 150."""
    return whole_frames(self.chunk_seconds, self.acoustic_rate_hz, "acoustic_rate_hz")

  @property
  def coarse_length(self) -> int:
    return self.frames * self.num_coarse_levels

  @property
  def fine_length(self) -> int:
    return self.frames * self.num_fine_levels

  @property
  def num_fine_levels(self) -> int:
    return self.num_levels - self.num_coarse_levels

  @property
  def length(self) -> int:
    """Number of tokens, exact: there is no EOS and no padding."""
    return self.coarse_length + self.fine_length

  @property
  def block_size(self) -> int:
    """Number of legal ids, the same at every position."""
    return self.num_acoustic_codes

  @functools.cached_property
  def block_starts(self) -> np.ndarray:
    """The first legal id of every position: int32 `[length]`. id = block start + code."""
    starts = np.array([block.start for block in self._blocks], np.int32)
    coarse, fine = np.split(np.tile(starts, (self.frames, 1)), [self.num_coarse_levels], axis=-1)
    return np.concatenate([interleave.flatten(coarse), interleave.flatten(fine)])

  def check_fits(self, vocabulary: Vocabulary, geometry: Geometry) -> None:
    """Raises InputError where the codes it refines are others than those of `vocabulary` and `geometry`."""
    facts = {
      "codes per level": (self.num_acoustic_codes, vocabulary.num_acoustic_codes),
      "coarse levels": (self.num_coarse_levels, vocabulary.num_coarse_levels),
      "levels": (self.num_levels, geometry.num_acoustic_levels),
      "acoustic frames per second": (self.acoustic_rate_hz, geometry.acoustic_rate_hz),
    }
    for what, (own, given) in facts.items():
      if own != given:
        raise InputError(f"{what}: the fine stage has {own:g}, what it is to refine has {given:g}")
    if self.frames > geometry.acoustic_frames:
      raise InputError(
        f"chunk_seconds is {self.chunk_seconds:g}, longer than a window of {geometry.window_seconds:g} s"
      )

  def encode(self, acoustic: np.ndarray) -> np.ndarray:
    """Codes to ids.

    Args:
      acoustic: codes `[..., frames, levels]`; all levels, or the coarse ones only.

    Returns:
      int32 ids `[..., length]`. The fine positions are 0 where there are coarse levels only.

    Raises:
      ValueError: another shape, or a code out of range, which is named.
    """
    acoustic = np.asarray(acoustic)
    frames, levels = acoustic.shape[-2:]
    if frames != self.frames or levels not in (self.num_coarse_levels, self.num_levels):
      raise ValueError(
        f"expected {self.frames} frames × {self.num_coarse_levels} or {self.num_levels} levels, "
        f"got shape {acoustic.shape}"
      )
    ids = np.zeros((*acoustic.shape[:-2], self.frames, self.num_levels), np.int32)
    ids[..., :levels] = by_level(codes_to_ids, acoustic, self._blocks[:levels])
    coarse, fine = np.split(ids, [self.num_coarse_levels], axis=-1)
    return np.concatenate([interleave.flatten(coarse), interleave.flatten(fine)], axis=-1)

  def decode(self, ids: np.ndarray) -> np.ndarray:
    """Ids `[..., length]` to codes `[..., frames, num_levels]`.

    Raises:
      ValueError: another length, or an id that is illegal where it stands, which is named.
    """
    ids = np.asarray(ids)
    if ids.shape[-1] != self.length:
      raise ValueError(f"expected {self.length} tokens, got {ids.shape[-1]}")
    coarse, fine = np.split(ids, [self.coarse_length], axis=-1)
    parts = [
      interleave.unflatten(coarse, self.num_coarse_levels),
      interleave.unflatten(fine, self.num_fine_levels),
    ]
    return by_level(ids_to_codes, np.concatenate(parts, axis=-1), self._blocks)

  @property
  def _blocks(self) -> list[Block]:
    size = self.num_acoustic_codes
    return [Block(1 + level * size, 1 + (level + 1) * size) for level in range(self.num_levels)]
