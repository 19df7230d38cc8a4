"""tasks/metrics.py."""

import numpy as np
import pytest

from singsong_jax.tokens.featurization import layouts
from tasks import metrics


def test_token_accuracy_counts_positions():
  assert metrics.token_accuracy([[2, 3], [4, 5]], [[2, 3], [4, 9]]) == {"token_accuracy": 0.75}


def test_legal_fraction_by_hand(geometry):
  layout = layouts("a_sa", geometry=geometry)[1]
  legal = layout.block_starts
  wrong = legal.copy()
  wrong[0] = 0  # pad
  wrong[10] = 2050  # coarse level 1 where level 0 belongs
  wrong[11] = 2049  # level 0 where level 1 belongs
  metric = metrics.legal_fraction(layout)
  assert metric([], [legal.tolist()]) == {"legal_fraction": 1.0}
  assert metric([], [legal, wrong])["legal_fraction"] == pytest.approx(1 - 3 / (2 * layout.length))


def test_other_lengths_are_refused():
  with pytest.raises(ValueError, match=r"shape \(1,\), expected \(2,\)"):
    metrics.token_accuracy([np.zeros(2)], [np.zeros(1)])
