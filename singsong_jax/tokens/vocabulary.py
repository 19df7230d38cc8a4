"""The ids of the language model's vocabulary, and which audio code each stands for.

    id        0     pad: never produced; SeqIO and t5x drop it from loss and attention
    id        1     BOS: the first decoder input
    2 … 1025        semantic code s           → 2 + s
    1026 … 2049     coarse level 0, code c    → 1026 + c
    2050 … 3073     coarse level 1, code c    → 2050 + c
    3074 … 4097     coarse level 2, code c    → 3074 + c
    4098 … 5121     coarse level 3, code c    → 4098 + c

1024 semantic + 4 × 1024 acoustic + 2 sentinels = 5122 (SingSong, §4.4). The paper does not give
the order. The sentinels come first here because id 0 is masked from loss and attention by SeqIO
and t5x: a semantic code with id 0 would be lost without a word. There is no end-of-sequence id:
every length is known in advance.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

PAD_ID = 0
BOS_ID = 1
NUM_SENTINELS = 2


class Block(NamedTuple):
  """A half-open range of ids, `[start, stop)`."""

  start: int
  stop: int

  @property
  def size(self) -> int:
    return self.stop - self.start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
  """Sizes of the code books, and the id blocks that follow from them."""

  num_semantic_codes: int = 1024
  num_acoustic_codes: int = 1024  # per level
  num_coarse_levels: int = 4

  @property
  def size(self) -> int:
    """Number of ids, sentinels included: 5122 with the paper's sizes."""
    return NUM_SENTINELS + self.num_semantic_codes + self.num_coarse_levels * self.num_acoustic_codes

  @property
  def semantic_block(self) -> Block:
    return Block(NUM_SENTINELS, NUM_SENTINELS + self.num_semantic_codes)

  def coarse_block(self, level: int) -> Block:
    """The ids of one coarse level. Raises ValueError unless `0 ≤ level < num_coarse_levels`."""
    if not 0 <= level < self.num_coarse_levels:
      raise ValueError(f"coarse level {level} is outside 0 … {self.num_coarse_levels - 1}")
    start = self.semantic_block.stop + level * self.num_acoustic_codes
    return Block(start, start + self.num_acoustic_codes)

  def semantic_to_ids(self, codes: np.ndarray) -> np.ndarray:
    """Semantic codes `[..., frames]` in `0 … num_semantic_codes-1` to ids of the same shape."""
    return codes_to_ids(codes, self.semantic_block)

  def ids_to_semantic(self, ids: np.ndarray) -> np.ndarray:
    """Inverse of `semantic_to_ids`."""
    return ids_to_codes(ids, self.semantic_block)

  def coarse_to_ids(self, codes: np.ndarray) -> np.ndarray:
    """Coarse codes `[..., frames, num_coarse_levels]` to ids of the same shape."""
    return by_level(codes_to_ids, codes, self._coarse_blocks)

  def ids_to_coarse(self, ids: np.ndarray) -> np.ndarray:
    """Inverse of `coarse_to_ids`."""
    return by_level(ids_to_codes, ids, self._coarse_blocks)

  @property
  def _coarse_blocks(self) -> list[Block]:
    return [self.coarse_block(level) for level in range(self.num_coarse_levels)]


def by_level(
  convert: Callable[[np.ndarray, Block], np.ndarray], array: np.ndarray, blocks: Sequence[Block]
) -> np.ndarray:
  """`convert(array[..., q], blocks[q])` for every level q of `[..., levels]`, to the same shape.

  Raises:
    ValueError: there are not as many levels as blocks, or `convert` refuses a value.
  """
  array = np.asarray(array)
  if array.shape[-1] != len(blocks):
    raise ValueError(f"expected {len(blocks)} levels last, got shape {array.shape}")
  return np.stack([convert(array[..., q], block) for q, block in enumerate(blocks)], axis=-1)


def codes_to_ids(codes: np.ndarray, block: Block) -> np.ndarray:
  """Shifts codes `0 … block.size-1` into `block`. Raises ValueError naming a code out of range."""
  codes = np.asarray(codes, dtype=np.int32)
  _check_range(codes, 0, block.size, "code")
  return codes + np.int32(block.start)


def ids_to_codes(ids: np.ndarray, block: Block) -> np.ndarray:
  """Shifts ids out of `block` to codes from 0. Raises ValueError naming an id outside it."""
  ids = np.asarray(ids, dtype=np.int32)
  _check_range(ids, block.start, block.stop, "id")
  return ids - np.int32(block.start)


def _check_range(values: np.ndarray, start: int, stop: int, what: str) -> None:
  wrong = (values < start) | (values >= stop)
  if wrong.any():
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise ValueError(f"{what} {int(values[index])} at index {index} is outside {start} … {stop - 1}")
