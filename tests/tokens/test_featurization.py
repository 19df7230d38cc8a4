"""Lengths, legal blocks and id sequences of the five featurizations."""

import numpy as np
import pytest

from singsong_jax.tokens.featurization import FEATURIZATIONS, SequenceLayout, layouts
from singsong_jax.tokens.vocabulary import Block, Vocabulary
from singsong_jax.tokens.windows import Geometry

LENGTHS = {
  "sa_sa": (2250, 2250),
  "s_sa": (250, 2250),
  "a_a": (2000, 2000),
  "sa_a": (2250, 2000),
  "a_sa": (2000, 2250),
  "s_s": (250, 250),
}


def random_codes(layout, seed=0):
  rng = np.random.default_rng(seed)
  semantic = rng.integers(0, 1024, (2, layout.geometry.semantic_frames))
  acoustic = rng.integers(0, 1024, (2, layout.geometry.acoustic_frames, 12))
  return semantic, acoustic


@pytest.mark.parametrize("features", FEATURIZATIONS)
def test_lengths(features):
  inputs, targets = layouts(features)
  assert (inputs.length, targets.length) == LENGTHS[features]


@pytest.mark.parametrize(
  ("position", "start", "stop"),
  [(0, 2, 1026), (249, 2, 1026), (250, 1026, 2050), (251, 2050, 3074), (253, 4098, 5122), (2249, 4098, 5122)],
)
def test_legal_blocks_of_the_papers_target(position, start, stop):
  assert layouts("s_sa")[1].legal_block(position) == Block(start, stop)


def test_when_positions_sound():
  seconds = layouts("s_sa")[1].seconds
  np.testing.assert_allclose(seconds[[0, 1, 249]], [0.02, 0.06, 9.98], atol=1e-6)
  np.testing.assert_allclose(seconds[[250, 253, 254, 2249]], [0.01, 0.01, 0.03, 9.99], atol=1e-6)
  assert [len(layouts(name)[0].seconds) for name in ("s_sa", "a_a", "sa_a")] == [250, 2000, 2250]


def test_acoustic_only_targets_start_at_coarse_level_0():
  assert [layouts("sa_a")[1].legal_block(t).start for t in range(5)] == [1026, 2050, 3074, 4098, 1026]


@pytest.mark.parametrize("features", FEATURIZATIONS)
def test_block_tables_agree_with_legal_block_at_every_position(features):
  for layout in layouts(features):
    blocks = [layout.legal_block(t) for t in range(layout.length)]
    np.testing.assert_array_equal(layout.block_starts, [b.start for b in blocks])
    np.testing.assert_array_equal(layout.block_starts + layout.block_sizes, [b.stop for b in blocks])


@pytest.mark.parametrize("features", FEATURIZATIONS)
def test_codes_survive_the_round_trip_at_all_positions(features):
  for layout in layouts(features):
    semantic, acoustic = random_codes(layout)
    ids = layout.encode(semantic, acoustic)
    assert ids.shape == (2, layout.length)
    decoded_semantic, decoded_coarse = layout.decode(ids)
    if "s" in layout.streams:
      np.testing.assert_array_equal(decoded_semantic, semantic)
    if "a" in layout.streams:
      np.testing.assert_array_equal(decoded_coarse, acoustic[..., :4])


def test_a_tiny_target_worked_by_hand():
  layout = SequenceLayout(
    streams="sa",
    vocabulary=Vocabulary(num_semantic_codes=3, num_acoustic_codes=5, num_coarse_levels=2),
    geometry=Geometry(semantic_rate_hz=1, acoustic_rate_hz=2, num_acoustic_levels=3, window_seconds=2),
  )
  ids = layout.encode(np.array([0, 2]), np.array([[0, 1, 9], [2, 3, 9], [4, 0, 9], [1, 1, 9]]))
  #  semantic +2     frame 0    frame 1    frame 2    frame 3: level 0 + 5, level 1 + 10, fine dropped
  np.testing.assert_array_equal(ids, [2, 4, 5, 11, 7, 13, 9, 10, 6, 11])


def test_an_illegal_sequence_is_refused():
  layout = layouts("s_sa")[1]
  ids = layout.encode(*random_codes(layout))
  ids[1, 250] = 2  # a semantic id where coarse level 0 must stand
  with pytest.raises(ValueError, match="id 2 at index"):
    layout.decode(ids)


def test_a_wrong_length_is_refused():
  with pytest.raises(ValueError, match="expected 250 tokens for 's', got 249"):
    layouts("s_sa")[0].encode(np.zeros(249, np.int32), None)


def test_unknown_names_list_the_choices():
  with pytest.raises(ValueError, match="unknown features 'sasa'; choose one of sa_sa, s_sa"):
    layouts("sasa")
  with pytest.raises(ValueError, match="streams must be"):
    SequenceLayout(streams="as")


def test_more_coarse_levels_than_the_codec_has_are_refused():
  with pytest.raises(ValueError, match="4 coarse levels, but the codec has only 3"):
    SequenceLayout(streams="a", geometry=Geometry(num_acoustic_levels=3))
