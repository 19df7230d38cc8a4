"""Time-major flattening, level fastest."""

import numpy as np
import pytest

from singsong_jax.tokens import interleave


def test_the_level_index_runs_fastest():
  codes = np.array([[10, 11, 12], [20, 21, 22]])  # [frames, levels]
  np.testing.assert_array_equal(interleave.flatten(codes), [10, 11, 12, 20, 21, 22])


def test_round_trip_with_leading_axes():
  codes = np.arange(2 * 5 * 4).reshape(2, 5, 4)
  np.testing.assert_array_equal(interleave.unflatten(interleave.flatten(codes), 4), codes)


def test_a_partial_frame_is_refused():
  with pytest.raises(ValueError, match="7 tokens do not divide into frames of 4 levels"):
    interleave.unflatten(np.arange(7), 4)
