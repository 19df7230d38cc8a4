"""Clips through a network that hears a fixed number of samples."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunks:
  """How clips are cut, and put together again.

  Attributes:
    kept_samples: what of a chunk is used.
    step_samples: from one chunk to the next; where it is less than that, chunks are faded into each other.
    context_samples: what a chunk has besides, before and after.
  """

  kept_samples: int
  step_samples: int
  context_samples: int = 0

  def separate(
    self, mixes: np.ndarray, network: Callable[[np.ndarray], np.ndarray], at_a_time: int
  ) -> np.ndarray:
    """float32 `[clips, samples]` → float32 `[clips, samples]`.

    Args:
      network: `[n ≤ at_a_time, kept + 2 context]` → `[n, kept]`.
    """
    chunks = self._cut(mixes)  # [clips, chunks, samples]
    rows = chunks.reshape(-1, chunks.shape[-1])
    batches = (rows[start : start + at_a_time] for start in range(0, len(rows), at_a_time))
    kept = np.concatenate([network(batch) for batch in batches])
    return self._join(kept.reshape(*chunks.shape[:2], -1), mixes.shape[1])

  def _begins(self, num_samples: int) -> range:
    """Where what is used of each chunk begins, `_before` samples late: every sample is in as many chunks."""
    return range(0, num_samples + self._before, self.step_samples)

  @property
  def _before(self) -> int:
    return self.kept_samples - self.step_samples

  def _cut(self, mixes: np.ndarray) -> np.ndarray:
    """Zeros beyond the clips."""
    begins, size = self._begins(mixes.shape[1]), self.kept_samples + 2 * self.context_samples
    before = self._before + self.context_samples
    padded = np.pad(mixes, ((0, 0), (before, begins[-1] + size - before - mixes.shape[1])))
    return np.stack([padded[:, begin : begin + size] for begin in begins], axis=1)

  def _join(self, kept: np.ndarray, num_samples: int) -> np.ndarray:
    size, begins = self.kept_samples, self._begins(num_samples)
    # Half a sample off the periodic window, so that no weight is 0.
    fade = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 if self._before else np.ones(size)
    total = np.zeros((len(kept), begins[-1] + size))
    weight = np.zeros(total.shape[1])
    for index, begin in enumerate(begins):
      total[:, begin : begin + size] += fade * kept[:, index]
      weight[begin : begin + size] += fade
    inner = slice(self._before, self._before + num_samples)
    return (total[:, inner] / weight[inner]).astype(np.float32)
