"""The pieces in which a sequence is gone through, and the check of forced ids."""

import numpy as np
import pytest

from singsong_jax.decoding.engine import Piece, check_forced, guide, plan
from singsong_jax.errors import InputError


def pieces(*triples):
  return [Piece(start, stop, kind == "forced") for start, stop, kind in triples]


def test_sampled_pieces_end_at_multiples_of_256():
  assert plan(600, ()) == pieces((0, 256, "s"), (256, 512, "s"), (512, 600, "s"))


def test_the_pieces_of_a_song_that_goes_on():
  """250 semantic and 2000 coarse ids, of both the first half given (SingSong, §6)."""
  expected = [(0, 125, "forced"), (125, 250, "s"), (250, 512, "forced"), (512, 1024, "forced")]
  expected += [(1024, 1250, "forced"), (1250, 1280, "s"), (1280, 1536, "s"), (1536, 1792, "s")]
  expected += [(1792, 2048, "s"), (2048, 2250, "s")]
  assert plan(2250, ((0, 125), (250, 1250))) == pieces(*expected)


def test_short_spans_are_stepped_through_and_nothing_after_the_last_sample_is_read():
  assert plan(200, ((0, 3), (10, 20))) == pieces((0, 200, "s"))
  assert plan(200, ((0, 3), (100, 200))) == pieces((0, 100, "s"))
  assert plan(200, ((0, 200),)) == []


def test_no_sampled_piece_has_blocks_of_different_sizes():
  sizes = np.repeat([16, 32], [100, 200])
  assert plan(300, (), sizes) == pieces((0, 100, "s"), (100, 256, "s"), (256, 300, "s"))
  assert plan(300, ((50, 200),), sizes) == pieces(
    (0, 50, "s"), (50, 200, "forced"), (200, 256, "s"), (256, 300, "s")
  )


def test_guidance_by_hand():
  logits = np.array([[[3.0, 1.0]], [[1.0, 2.0]]])  # with and without the condition
  assert guide(logits, 2.0).tolist() == [[5.0, 0.0]]
  assert guide(logits, 0.0).tolist() == [[1.0, 2.0]]
  assert guide(logits[:1], 7.0).tolist() == [[3.0, 1.0]]


def test_legal_ids_pass_wherever_they_are_forced():
  starts = np.array([2, 6, 6])
  check_forced([[2, 9, 0], [5, 6, -7]], ((0, 2),), 2, starts, 4)  # the last position is not read
  with pytest.raises(InputError, match="forced id 0 at position 2 of row 0 is illegal: 6 … 9"):
    check_forced([[2, 9, 0], [5, 6, 9]], ((0, 3),), 2, starts, 4)
