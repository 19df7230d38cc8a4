"""The paper's votes, and tests that can be done by hand."""

import numpy as np
import pytest
import scipy.stats

from singsong_jax.errors import InputError
from singsong_jax.evaluation.significance import binomial, holm, paired_permutation, wilcoxon


@pytest.mark.parametrize(
  ("wins", "p"), [(110, 0.157), (112, 0.090), (132, 6.0e-6), (133, 3.1e-6), (134, 1.5e-6)]
)
def test_votes_of_two_hundred(wins, p):
  """SingSong's Figure 4 has 55 % of 200 votes as p = 0.01: votes alone cannot give that."""
  assert wilcoxon([1] * wins + [-1] * (200 - wins)) == pytest.approx(p, rel=0.02)


def test_draws_are_left_out_and_degrees_count():
  assert wilcoxon([1, 1, 1, -1, 0, 0]) == wilcoxon([1, 1, 1, -1])
  assert wilcoxon([2] * 8 + [-1] * 8) < wilcoxon([1] * 8 + [-1] * 8) == 1


def test_few_answers_are_counted_by_hand():
  """Of 2⁴ signs two are as one-sided as 4 of 4. Ranks of 1, 2, 2, −1 are 1½, 3½, 3½, 1½: the sum above 0 is
  8½ of 10; 8½ or more have {all}, and all but either 1½; as many 1½ or less.
  """
  assert wilcoxon([2] * 4) == pytest.approx(2 / 16) == pytest.approx(binomial(4, 4))
  assert wilcoxon([1, 2, 2, -1]) == pytest.approx(6 / 16)


def test_counting_meets_the_published_distribution_and_the_approximation():
  """Without ties SciPy counts, too; with many answers both ways are the same."""
  rng = np.random.default_rng(0)
  untied = rng.permutation(np.arange(1, 13)) * rng.choice([-1, 1, 1], 12)
  assert wilcoxon(untied) == pytest.approx(scipy.stats.wilcoxon(untied, method="exact").pvalue)
  tied = rng.choice([-2, -1, 1, 2], 50, p=[0.2, 0.2, 0.3, 0.3])
  assert wilcoxon(tied) == pytest.approx(scipy.stats.wilcoxon(tied, method="approx").pvalue, rel=0.1)


def test_binomial_by_hand():
  """5 of 5: 2 · 2⁻⁵; 4 of 5: 2 · 6 · 2⁻⁵."""
  assert binomial(5, 5) == pytest.approx(2 / 32) and binomial(4, 5) == pytest.approx(12 / 32)
  assert binomial(1, 5) == binomial(4, 5)


def test_holm_by_hand():
  """0.01 · 3, then 0.02 · 2, then the largest of 0.04 and 0.03 · 1."""
  assert holm({"c": 0.03, "a": 0.01, "b": 0.02}) == pytest.approx({"c": 0.04, "a": 0.03, "b": 0.04})
  assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_permutations_by_hand():
  """Three pairs, all better by 1: only one of eight sign patterns reaches that. By 3, 1 and −2: 3 + 1 + 2 and
  3 + 1 − 2, 3 − 1 + 2 and as much as −2 + … no more: three of eight.
  """
  assert paired_permutation([2, 3, 4], [1, 2, 3]) == 1 / 8
  assert paired_permutation([3, 1, 0], [0, 0, 2]) == 3 / 8
  many = np.random.default_rng(0).normal(0.3, 1, (2, 15))
  assert paired_permutation(*many) == pytest.approx(paired_permutation(*many, draws=20_000), abs=0.01)
  assert paired_permutation([1, 2, 3], [2, 3, 4]) == 1
  assert paired_permutation(np.arange(40.0), np.arange(40.0) - 1, draws=999) == 1 / 1000
  assert paired_permutation([1, 2], [1, 2]) == 1


def test_clips_of_a_song_have_one_sign():
  """Six pairs of two songs are two pieces of evidence: 1 of 4 sign patterns."""
  one, other = [2, 2, 2, 3, 3, 3], [1] * 6
  assert paired_permutation(one, other) == 1 / 64
  assert paired_permutation(one, other, groups="aaabbb") == 1 / 4
  assert paired_permutation(one, other, groups="abcdef") == paired_permutation(one, other)


def test_what_cannot_be_tested():
  with pytest.raises(InputError, match="all of 3 answers are draws"):
    wilcoxon([0, 0, 0])
  with pytest.raises(InputError, match="not finite"):
    wilcoxon([1, np.nan])
  with pytest.raises(InputError, match="6 wins of 5 votes"):
    binomial(6, 5)
  with pytest.raises(InputError, match="2 and 3 values are no pairs"):
    paired_permutation([1, 2], [1, 2, 3])
