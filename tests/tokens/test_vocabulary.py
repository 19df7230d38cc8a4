"""Ids of the 5122-token vocabulary, against numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.tokens.vocabulary import BOS_ID, PAD_ID, Block, Vocabulary

VOCABULARY = Vocabulary()


def test_the_papers_vocabulary_has_5122_ids():
  assert VOCABULARY.size == 5122
  assert (PAD_ID, BOS_ID) == (0, 1)


def test_blocks_tile_the_vocabulary():
  assert VOCABULARY.semantic_block == Block(2, 1026)
  blocks = [VOCABULARY.coarse_block(q) for q in range(4)]
  assert blocks == [Block(1026, 2050), Block(2050, 3074), Block(3074, 4098), Block(4098, 5122)]


def test_hand_worked_ids():
  np.testing.assert_array_equal(VOCABULARY.semantic_to_ids([0, 1023]), [2, 1025])
  np.testing.assert_array_equal(
    VOCABULARY.coarse_to_ids([[0, 0, 0, 0], [1023, 1, 2, 1023]]),
    [[1026, 2050, 3074, 4098], [2049, 2051, 3076, 5121]],
  )


@given(st.lists(st.lists(st.integers(0, 1023), min_size=4, max_size=4), min_size=1, max_size=8))
def test_codes_survive_the_round_trip(frames):
  codes = np.array(frames, np.int32)
  np.testing.assert_array_equal(VOCABULARY.ids_to_coarse(VOCABULARY.coarse_to_ids(codes)), codes)
  np.testing.assert_array_equal(VOCABULARY.ids_to_semantic(VOCABULARY.semantic_to_ids(codes)), codes)


@pytest.mark.parametrize("code", [-1, 1024])
def test_a_code_out_of_range_is_named(code):
  with pytest.raises(ValueError, match=rf"code {code} at index \(1,\) is outside 0 … 1023"):
    VOCABULARY.semantic_to_ids([5, code])


def test_an_id_of_another_block_is_named():
  with pytest.raises(ValueError, match=r"id 1026 at index .* is outside 2 … 1025"):
    VOCABULARY.ids_to_semantic([1026])


def test_a_level_that_does_not_exist_is_refused():
  with pytest.raises(ValueError, match="coarse level 4 is outside 0 … 3"):
    VOCABULARY.coarse_block(4)


def test_other_sizes_follow():
  small = Vocabulary(num_semantic_codes=500, num_acoustic_codes=16, num_coarse_levels=3)
  assert small.size == 2 + 500 + 48
  assert small.coarse_block(2) == Block(534, 550)
