"""Which codes the encoder reads and the decoder writes: SA-SA, S-SA, A-A, SA-A, A-SA × Clean, Noisy.

`S` is the semantic stream, `A` the flattened coarse acoustic one (SingSong, §3.4, §4.5). With the
paper's 10 s geometry:

    features   encoder input                        decoder target
    sa_sa      [250 semantic; 2000 coarse] = 2250   [250 semantic; 2000 coarse] = 2250
    s_sa       [250 semantic]              =  250   [250 semantic; 2000 coarse] = 2250
    a_a        [2000 coarse]               = 2000   [2000 coarse]               = 2000
    sa_a       [250 semantic; 2000 coarse] = 2250   [2000 coarse]               = 2000
    a_sa       [2000 coarse]               = 2000   [250 semantic; 2000 coarse] = 2250
    s_s        [250 semantic]              =  250   [250 semantic]              =  250

The last is none of the paper's: the semantic codes alone, a ninth of the tokens of `s_sa`.

Every position belongs to one block of the vocabulary: `semantic` while position < semantic frames,
then coarse level `(position − semantic frames) mod 4`.
"""

import dataclasses
import functools

import numpy as np

from singsong_jax.tokens import interleave
from singsong_jax.tokens.vocabulary import Block, Vocabulary
from singsong_jax.tokens.windows import Geometry


@dataclasses.dataclass(frozen=True)
class Featurization:
  """Streams of the encoder input and of the decoder target, each `'s'`, `'a'` or `'sa'`."""

  inputs: str
  targets: str


FEATURIZATIONS = {
  "sa_sa": Featurization("sa", "sa"),
  "s_sa": Featurization("s", "sa"),
  "a_a": Featurization("a", "a"),
  "sa_a": Featurization("sa", "a"),
  "a_sa": Featurization("a", "sa"),
  "s_s": Featurization("s", "s"),
}

# Standard deviation of the white noise added to vocals, full scale = 1 (§4.5): −40 dB for Noisy.
NOISE_SIGMA = {"clean": 0.0, "noisy": 0.01}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceLayout:
  """One window's codes as one sequence of ids: `[semantic; coarse]`, or either of them.

  Attributes:
    streams: `'s'`, `'a'` or `'sa'`.
  """

  streams: str
  vocabulary: Vocabulary = Vocabulary()
  geometry: Geometry = Geometry()

  def __post_init__(self):
    if self.streams not in ("s", "a", "sa"):
      raise ValueError(f"streams must be 's', 'a' or 'sa', got {self.streams!r}")
    if self.vocabulary.num_coarse_levels > self.geometry.num_acoustic_levels:
      raise ValueError(
        f"{self.vocabulary.num_coarse_levels} coarse levels, but the codec has only "
        f"{self.geometry.num_acoustic_levels}"
      )

  @property
  def semantic_length(self) -> int:
    return self.geometry.semantic_frames if "s" in self.streams else 0

  @property
  def coarse_length(self) -> int:
    levels = self.vocabulary.num_coarse_levels
    return self.geometry.acoustic_frames * levels if "a" in self.streams else 0

  @property
  def length(self) -> int:
    """Number of tokens, exact: there is no EOS and no padding."""
    return self.semantic_length + self.coarse_length

  def legal_block(self, position: int) -> Block:
    """The ids that may stand at `position`; raises ValueError outside `0 … length-1`."""
    if not 0 <= position < self.length:
      raise ValueError(f"position {position} is outside 0 … {self.length - 1}")
    if position < self.semantic_length:
      return self.vocabulary.semantic_block
    return self.vocabulary.coarse_block((position - self.semantic_length) % self.vocabulary.num_coarse_levels)

  @functools.cached_property
  def block_starts(self) -> np.ndarray:
    """`legal_block(t).start` for every position t: int32 `[length]`. id = block start + code."""
    return np.array([self.legal_block(t).start for t in range(self.length)], np.int32)

  @functools.cached_property
  def block_sizes(self) -> np.ndarray:
    """`legal_block(t).size` for every position t: int32 `[length]`."""
    return np.array([self.legal_block(t).size for t in range(self.length)], np.int32)

  @functools.cached_property
  def seconds(self) -> np.ndarray:
    """The middle of what every position stands for, in seconds of the window: float32 `[length]`."""
    geometry, levels = self.geometry, self.vocabulary.num_coarse_levels
    semantic = (np.arange(self.semantic_length) + 0.5) / geometry.semantic_rate_hz
    coarse = (np.arange(self.coarse_length) // levels + 0.5) / geometry.acoustic_rate_hz
    return np.concatenate([semantic, coarse]).astype(np.float32)

  def encode(self, semantic: np.ndarray, acoustic: np.ndarray) -> np.ndarray:
    """Codes to ids.

    Args:
      semantic: codes `[..., semantic_frames]`; not read when the layout has no `s`.
      acoustic: codes `[..., acoustic_frames, levels]`, levels ≥ the coarse ones; the fine levels
        are dropped. Not read when the layout has no `a`.

    Returns:
      int32 ids `[..., length]`.
    """
    parts = []
    if "s" in self.streams:
      parts.append(self.vocabulary.semantic_to_ids(semantic))
    if "a" in self.streams:
      coarse = np.asarray(acoustic)[..., : self.vocabulary.num_coarse_levels]
      parts.append(interleave.flatten(self.vocabulary.coarse_to_ids(coarse)))
    ids = np.concatenate(parts, axis=-1)
    self._check_length(ids)
    return ids

  def decode(self, ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Ids `[..., length]` to `(semantic [..., frames], coarse [..., frames, coarse levels])`.

    A stream the layout lacks is None. Raises ValueError naming the first illegal id.
    """
    ids = np.asarray(ids)
    self._check_length(ids)
    semantic = coarse = None
    if "s" in self.streams:
      semantic = self.vocabulary.ids_to_semantic(ids[..., : self.semantic_length])
    if "a" in self.streams:
      flat = ids[..., self.semantic_length :]
      coarse = self.vocabulary.ids_to_coarse(interleave.unflatten(flat, self.vocabulary.num_coarse_levels))
    return semantic, coarse

  def decode_heard(self, ids: np.ndarray) -> np.ndarray:
    """Ids `[..., length]` to the codes there are to hear `[..., frames, levels]`.

    The coarse ones; the semantic ones as a single level where the layout has no others.
    """
    semantic, coarse = self.decode(ids)
    if coarse is not None:
      return coarse
    assert semantic is not None
    return semantic[..., None]

  @property
  def heard_rate_hz(self) -> float:
    """Frames per second of `decode_heard`."""
    return self.geometry.acoustic_rate_hz if "a" in self.streams else self.geometry.semantic_rate_hz

  def _check_length(self, ids: np.ndarray) -> None:
    if ids.shape[-1] != self.length:
      raise ValueError(f"expected {self.length} tokens for {self.streams!r}, got {ids.shape[-1]}")


def layouts(
  features: str, vocabulary: Vocabulary = Vocabulary(), geometry: Geometry = Geometry()
) -> tuple[SequenceLayout, SequenceLayout]:
  """The (input, target) layouts of a featurization named as in `FEATURIZATIONS`."""
  if features not in FEATURIZATIONS:
    raise ValueError(f"unknown features {features!r}; choose one of {', '.join(FEATURIZATIONS)}")
  chosen = FEATURIZATIONS[features]
  return (
    SequenceLayout(streams=chosen.inputs, vocabulary=vocabulary, geometry=geometry),
    SequenceLayout(streams=chosen.targets, vocabulary=vocabulary, geometry=geometry),
  )
