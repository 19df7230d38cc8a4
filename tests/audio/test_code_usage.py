import numpy as np
import pytest

from singsong_jax.audio.code_usage import code_usage


def test_by_hand():
  codes = np.array([[0, 3], [0, 3], [1, 3], [1, 3]])  # [frames, levels]
  first, second = code_usage(codes, num_codes=8)
  assert (first.used, first.share) == (2, 0.25)
  assert first.perplexity == pytest.approx(2)
  assert (second.used, second.share, second.perplexity) == (1, 0.125, 1)


def test_unequal_frequencies_tell_less():
  (usage,) = code_usage(np.array([0, 0, 0, 1]).reshape(2, 2, 1), num_codes=4)  # [clips, frames, levels]
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  assert usage.perplexity == pytest.approx(np.exp(entropy))


def test_all_codes_alike_give_their_number():
  (usage,) = code_usage(np.arange(1024)[:, None], num_codes=1024)
  assert usage.share == 1
  assert usage.perplexity == pytest.approx(1024)
