"""The arithmetic of long songs: overlapping windows, and the fine stage's chunks (SingSong §6).

The paper's 10 s windows with 50 % overlap, for a target of 250 semantic and 500 × 4 coarse codes:

    window 0    vocals  0 … 10 s    everything is generated
    window 1    vocals  5 … 15 s    positions 0 … 124 and 250 … 1249 are given: what window 0 generated
    window 2    vocals 10 … 20 s    at 125 … 249 and 1250 … 2249; the rest is generated

The instrumental's coarse codes are all of window 0 and what each later window adds, 250 frames.
"""

import bisect
import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from singsong_jax.errors import InputError
from singsong_jax.tokens.featurization import SequenceLayout
from singsong_jax.tokens.windows import window_starts


@dataclasses.dataclass(frozen=True)
class SlidingWindows:
  """Windows of a target that each repeat the end of the one before.

  Attributes:
    layout: of the target.
    overlap_seconds: how much is repeated; from `make`, a whole number of semantic and acoustic frames.
  """

  layout: SequenceLayout
  overlap_seconds: float

  @classmethod
  def make(cls, layout: SequenceLayout, overlap_seconds: float | None = None) -> "SlidingWindows":
    """Checks the overlap; None takes half of the window, or the next shorter that divides.

    Raises:
      InputError: it is negative, as long as the window or longer, or not a whole number of frames.
    """
    step, window_seconds = _overlap_step(layout), layout.geometry.window_seconds
    if overlap_seconds is None:
      overlap_seconds = math.floor(window_seconds / 2 / step + 1e-6) * step
    steps = overlap_seconds / step
    if not 0 <= overlap_seconds < window_seconds or not math.isclose(steps, round(steps), abs_tol=1e-6):
      raise InputError(
        f"overlap_seconds={overlap_seconds:g} is not a whole number of frames below a window; 0 and the "
        f"multiples of {step:g} s below {window_seconds:g} s are"
      )
    return cls(layout, round(steps) * step)

  @property
  def hop_samples(self) -> int:
    geometry = self.layout.geometry
    return geometry.window_samples - round(self.overlap_seconds * geometry.sample_rate_hz)

  @property
  def hop_frames(self) -> int:
    """Frames of what is heard that a later window adds."""
    return self._window_frames - self._overlap_frames

  @property
  def _semantic_overlap(self) -> int:
    has_semantic = "s" in self.layout.streams
    return round(self.overlap_seconds * self.layout.geometry.semantic_rate_hz) if has_semantic else 0

  @property
  def _window_frames(self) -> int:
    return round(self.layout.geometry.window_seconds * self.layout.heard_rate_hz)

  @property
  def _overlap_frames(self) -> int:
    return round(self.overlap_seconds * self.layout.heard_rate_hz)

  @property
  def _coarse_overlap(self) -> int:
    has_coarse = "a" in self.layout.streams
    return self._overlap_frames * self.layout.vocabulary.num_coarse_levels if has_coarse else 0

  def starts(self, num_samples: int) -> list[int]:
    """First samples of the windows that cover a vocal of `num_samples`."""
    return window_starts(num_samples, self.layout.geometry.window_samples, self.hop_samples)

  def boundaries(self, num_windows: int) -> list[int]:
    """First frame that each window adds to the stream, and the stream's length: `num_windows + 1`."""
    return [0, *(self._window_frames + i * self.hop_frames for i in range(num_windows))]

  def forced_spans(self, window: int) -> tuple[tuple[int, int], ...]:
    """Half-open spans of positions that `window` is given."""
    first_coarse = self.layout.semantic_length
    spans = ((0, self._semantic_overlap), (first_coarse, first_coarse + self._coarse_overlap))
    return tuple((start, stop) for start, stop in spans if window and stop > start)

  def carry_over(self, ids: np.ndarray) -> np.ndarray:
    """What the next window is given: ids `[..., T]` to ids `[..., T]`, 0 outside `forced_spans`."""
    given = np.zeros_like(ids)
    semantic_length, semantic, coarse = (
      self.layout.semantic_length,
      self._semantic_overlap,
      self._coarse_overlap,
    )
    given[..., :semantic] = ids[..., semantic_length - semantic : semantic_length]
    given[..., semantic_length : semantic_length + coarse] = ids[..., self.layout.length - coarse :]
    return given

  def added_codes(self, ids: np.ndarray, window: int) -> np.ndarray:
    """Codes that `window` adds to the stream that is heard: ids `[..., T]` to `[..., frames, levels]`."""
    return self.layout.decode_heard(ids)[..., self._overlap_frames if window else 0 :, :]


def _overlap_step(layout: SequenceLayout) -> float:
  """The shortest time, in seconds, that is a whole number of frames of all streams of a target."""
  geometry = layout.geometry
  rates_hz = [geometry.sample_rate_hz, layout.heard_rate_hz]
  if "s" in layout.streams:
    rates_hz.append(geometry.semantic_rate_hz)
  periods = [1 / Fraction(rate_hz).limit_denominator(10**6) for rate_hz in rates_hz]
  # The least common multiple of fractions in lowest terms.
  return math.lcm(*(p.numerator for p in periods)) / math.gcd(*(p.denominator for p in periods))


def chunk_starts(num_frames: int, available_frames: int, chunk_frames: int) -> list[int]:
  """First frames of the fine stage's chunks that cover `num_frames` of a stream (AudioLM §III-D).

  They follow one another; where the stream ends before the last one does, that one ends with it, and
  repeats frames of the one before.

  Raises:
    ValueError: `chunk_frames ≤ available_frames` and `num_frames ≤ available_frames` do not hold.
  """
  if not max(chunk_frames, num_frames) <= available_frames:
    raise ValueError(f"{num_frames} frames in chunks of {chunk_frames}, but there are {available_frames}")
  last = available_frames - chunk_frames
  return [min(start, last) for start in range(0, num_frames, chunk_frames)]


@dataclasses.dataclass(frozen=True)
class CodeStream:
  """Codes of a song, kept in pieces.

  Attributes:
    boundaries: first frame of each piece, and the stream's length: ascending, from 0.
    load: piece i as codes `[samples, frames, levels]`, of which the last
      `boundaries[i + 1] - boundaries[i]` frames count.
  """

  boundaries: Sequence[int]
  load: Callable[[int], np.ndarray]

  @property
  def num_frames(self) -> int:
    return self.boundaries[-1]

  def read(self, start: int, stop: int) -> np.ndarray:
    """Frames `start … stop - 1`: `[samples, stop - start, levels]`."""
    pieces = []
    for i in range(
      bisect.bisect_right(self.boundaries, start) - 1, bisect.bisect_left(self.boundaries, stop)
    ):
      first, last = self.boundaries[i : i + 2]
      piece = self.load(i)[:, first - last :]
      pieces.append(piece[:, max(0, start - first) : stop - first])
    return np.concatenate(pieces, axis=1)
