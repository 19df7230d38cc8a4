"""How well the codes of a tokeniser are used."""

from typing import NamedTuple

import numpy as np


class CodeUsage(NamedTuple):
  """Of one level.

  Attributes:
    used: how many codes occur.
    share: the same as a share of the codebook, 0 … 1.
    perplexity: exp of the codes' entropy in nats: so many codes, all as frequent, would tell as much. At most
      the number of frames, whose small numbers make it too small.
  """

  used: int
  share: float
  perplexity: float


def code_usage(codes: np.ndarray, num_codes: int) -> list[CodeUsage]:
  """Usage of each level: int `[..., frames, levels]`, codes 0 … num_codes − 1."""
  return usage_of_counts(count_codes(codes, num_codes))


def count_codes(codes: np.ndarray, num_codes: int) -> np.ndarray:
  """How often each code occurs: int `[..., levels]`, 0 … num_codes − 1 → int `[levels, num_codes]`."""
  levels = codes.reshape(-1, codes.shape[-1]).T
  return np.stack([np.bincount(level, minlength=num_codes) for level in levels])


def usage_of_counts(counts: np.ndarray) -> list[CodeUsage]:
  """Usage of each level: how often each code occurs, int `[levels, codes]`."""
  return [_level_usage(level) for level in counts]


def _level_usage(counts: np.ndarray) -> CodeUsage:
  occurring = counts[counts > 0]
  shares = occurring / occurring.sum()
  perplexity = float(np.exp(-np.sum(shares * np.log(shares))))
  return CodeUsage(len(occurring), len(occurring) / len(counts), perplexity)
