"""Tests of significance: of listeners' answers (SingSong §5.3), and of a metric under two conditions."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import scipy.stats

from singsong_jax.errors import InputError

_MOST_EXACT = 50  # answers


def wilcoxon(answers: Sequence[float]) -> float:
  """Two-sided p that answers, from −2 (the other one) to 2 (this one), are symmetric about 0; draws are left
  out.

  Equal degrees share their ranks. Up to `_MOST_EXACT` answers all signs are counted; above, it is the normal
  approximation, which is nearly the same there (with votes of ±1 alone, that of the sign test). Raises
  InputError without one answer that is no draw.
  """
  decided = np.asarray(answers, np.float64)
  if not np.isfinite(decided).all():
    raise InputError("an answer is not finite")
  if not decided.any():
    raise InputError(f"all of {len(decided)} answers are draws: there is nothing to test")
  decided = decided[decided != 0]
  if len(decided) <= _MOST_EXACT:
    return _all_signs(decided)
  return float(scipy.stats.wilcoxon(decided, zero_method="wilcox", method="approx").pvalue)


def _all_signs(decided: np.ndarray) -> float:
  """Two-sided p of a signed-rank sum, by the distribution that all signs of these answers give it."""
  doubled = np.rint(2 * scipy.stats.rankdata(np.abs(decided))).astype(int)  # shared ranks are halves
  ways = np.ones(1)  # how many sets of answers have a sum of ranks: [sum]
  for rank in doubled:
    ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
  away = np.abs(2 * np.arange(len(ways)) - doubled.sum())  # from the middle
  return float(ways[away >= abs(2 * doubled[decided > 0].sum() - doubled.sum())].sum() / ways.sum())


def binomial(wins: int, decided: int) -> float:
  """Two-sided p of so many wins among decided votes, if both were equally good. Raises InputError for
  impossible ones.
  """
  if not 0 <= wins <= decided or decided < 1:
    raise InputError(f"{wins} wins of {decided} votes are not possible")
  return float(scipy.stats.binomtest(wins, decided).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
  """p-values corrected for their number (Holm 1979), by name: each is compared with the level as it is."""
  ordered = sorted(p_values, key=lambda name: p_values[name])
  corrected, so_far = {}, 0.0
  for index, name in enumerate(ordered):
    so_far = max(so_far, min(1.0, (len(ordered) - index) * p_values[name]))
    corrected[name] = so_far
  return {name: corrected[name] for name in p_values}


def paired_permutation(
  one: Sequence[float],
  other: Sequence[float],
  seed: int = 0,
  draws: int = 100_000,
  groups: Sequence[Hashable] | None = None,
) -> float:
  """One-sided p that pairs' means differ so much in favour of `one` by chance: all signs of the differences
  are counted where they are no more than `draws`, and else so many drawn.

  Its least value is 2 to the minus number of pairs, or 1 / (draws + 1). Raises InputError for unlike
  lengths or values that are not finite.

  Args:
    groups: of each pair; those of one group (clips of a song) are no evidence of their own, and have one
      sign. None: every pair by itself.
  """
  first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
  if first.shape != second.shape or not len(first):
    raise InputError(f"{len(first)} and {len(second)} values are no pairs")
  differences = first - second
  if not np.isfinite(differences).all():
    raise InputError("a value is not finite")
  if groups is not None:
    differences = np.bincount(number_groups(groups), weights=differences)
  least = differences.sum() - 1e-12
  if 2 ** len(differences) <= draws:
    signs = 2 * (np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences)) & 1) - 1
    return float(np.mean(signs @ differences >= least))
  rng, reached = np.random.default_rng(seed), 0
  for start in range(0, draws, 1_000):  # in parts, so that memory does not grow with the pairs
    signs = rng.choice([-1.0, 1.0], size=(min(1_000, draws - start), len(differences)))
    reached += int(np.sum(signs @ differences >= least))
  return (1 + reached) / (1 + draws)


def number_groups(groups: Sequence[Hashable]) -> np.ndarray:
  """0 … of each, in the order in which they come first: int `[n]`."""
  numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
  return np.array([numbers[group] for group in groups])
