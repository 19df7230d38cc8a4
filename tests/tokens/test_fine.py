"""Order, ids and legal blocks of the fine stage's sequence, against numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.errors import InputError
from singsong_jax.tokens.fine import FineLayout

LAYOUT = FineLayout()
SMALL = FineLayout(
  num_acoustic_codes=5, num_levels=3, num_coarse_levels=1, acoustic_rate_hz=2, chunk_seconds=1
)


def random_codes(layout, batch=(2,), seed=0):
  shape = (*batch, layout.frames, layout.num_levels)
  return np.random.default_rng(seed).integers(0, layout.num_acoustic_codes, shape)


def test_the_papers_sizes():
  assert LAYOUT.frames == 150 and LAYOUT.vocabulary_size == 12_289
  assert (LAYOUT.coarse_length, LAYOUT.fine_length, LAYOUT.length) == (600, 1200, 1800)
  assert LAYOUT.block_starts.shape == (1800,) and LAYOUT.block_starts.dtype == np.int32


@pytest.mark.parametrize(
  ("position", "level"),
  [(0, 0), (1, 1), (3, 3), (4, 0), (599, 3), (600, 4), (607, 11), (608, 4), (609, 5), (1799, 11)],
)
def test_the_legal_block_of_a_position(position, level):
  assert LAYOUT.block_starts[position] == 1 + 1024 * level
  assert LAYOUT.block_size == 1024


def test_a_small_chunk_worked_by_hand():
  ids = SMALL.encode(np.array([[0, 4, 2], [3, 0, 1]]))
  #  level 0: 1 + code; level 1: 6 + code; level 2: 11 + code
  np.testing.assert_array_equal(ids, [1, 4, 10, 13, 6, 12])
  np.testing.assert_array_equal(SMALL.block_starts, [1, 1, 6, 11, 6, 11])


def test_coarse_codes_alone_leave_the_fine_positions_0():
  codes = random_codes(LAYOUT)
  ids = LAYOUT.encode(codes[..., :4])
  assert ids.shape == (2, 1800) and ids.dtype == np.int32
  np.testing.assert_array_equal(ids[:, :600], LAYOUT.encode(codes)[:, :600])
  assert not ids[:, 600:].any()


def test_extreme_ids_of_the_vocabulary():
  ids = LAYOUT.encode(np.tile(np.array([0] * 11 + [1023]), (150, 1)))
  assert (ids.min(), ids.max()) == (1, 12_288)


@given(
  codes=st.integers(2, 40),
  coarse=st.integers(1, 3),
  fine=st.integers(1, 4),
  frames=st.integers(1, 6),
  batch=st.sampled_from([(), (1,), (2, 3)]),
  seed=st.integers(0, 99),
)
def test_codes_survive_the_round_trip(codes, coarse, fine, frames, batch, seed):
  layout = FineLayout(
    num_acoustic_codes=codes,
    num_levels=coarse + fine,
    num_coarse_levels=coarse,
    acoustic_rate_hz=1,
    chunk_seconds=frames,
  )
  acoustic = random_codes(layout, batch, seed)
  ids = layout.encode(acoustic)
  assert ids.shape == (*batch, layout.length)
  assert ((ids >= layout.block_starts) & (ids < layout.block_starts + layout.block_size)).all()
  assert ids.max() < layout.vocabulary_size
  np.testing.assert_array_equal(layout.decode(ids), acoustic)


@pytest.mark.parametrize("shape", [(149, 12), (150, 5), (2, 151, 4)])
def test_another_shape_is_refused(shape):
  with pytest.raises(ValueError, match="expected 150 frames × 4 or 12 levels, got shape"):
    LAYOUT.encode(np.zeros(shape, np.int32))


def test_illegal_codes_and_ids_are_named():
  with pytest.raises(ValueError, match=r"code 5 at index \(1,\) is outside 0 … 4"):
    SMALL.encode(np.array([[0, 0, 0], [0, 5, 0]]))
  with pytest.raises(ValueError, match=r"id 0 at index \(1,\) is outside 11 … 15"):
    SMALL.decode(np.array([1, 1, 6, 11, 6, 0]))
  with pytest.raises(ValueError, match="expected 6 tokens, got 5"):
    SMALL.decode(np.ones(5, np.int32))


def test_bad_sizes_are_refused():
  with pytest.raises(InputError, match=r"num_coarse_levels is 12; with num_levels=12 it must be in 1 … 11"):
    FineLayout(num_coarse_levels=12)
  with pytest.raises(ValueError, match="not a whole number"):
    FineLayout(chunk_seconds=0.01)
