"""Windows and chunks, by hand."""

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.inference.windows import CodeStream, SlidingWindows, chunk_starts
from singsong_jax.tokens.featurization import SequenceLayout
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry

PAPER = SequenceLayout(streams="sa")
# A window of 4 semantic codes and 8 frames × 2 levels: positions 0 … 3 and 4 … 19.
SMALL = SequenceLayout(
  streams="sa",
  vocabulary=Vocabulary(num_coarse_levels=2, num_semantic_codes=50, num_acoustic_codes=50),
  geometry=Geometry(sample_rate_hz=8, semantic_rate_hz=1, acoustic_rate_hz=2, window_seconds=4),
)


def layout(streams="sa", **geometry):
  return SequenceLayout(streams=streams, geometry=Geometry(**geometry))


def test_the_papers_windows():
  windows = SlidingWindows.make(PAPER)
  assert windows.overlap_seconds == 5
  assert windows.hop_samples == 80_000
  assert windows.starts(35 * 16_000) == [0, 80_000, 160_000, 240_000, 320_000, 400_000]
  assert windows.boundaries(3) == [0, 500, 750, 1000]
  assert windows.forced_spans(0) == ()
  assert windows.forced_spans(1) == windows.forced_spans(9) == ((0, 125), (250, 1250))


def test_windows_of_semantic_codes_alone():
  windows = SlidingWindows.make(layout("s"))
  assert windows.boundaries(3) == [0, 250, 375, 500]
  assert windows.forced_spans(1) == ((0, 125),)
  ids = np.arange(2, 252)[None]
  np.testing.assert_array_equal(windows.carry_over(ids)[0, :126], [*range(127, 252), 0])
  np.testing.assert_array_equal(windows.added_codes(ids, 0)[0, :, 0], np.arange(250))
  np.testing.assert_array_equal(windows.added_codes(ids, 1)[0, :, 0], np.arange(125, 250))


@pytest.mark.parametrize(
  ("seconds", "windows"), [(0.5, 1), (10, 1), (10.0001, 2), (15, 2), (30, 5), (3600, 719)]
)
def test_number_of_windows(seconds, windows):
  assert len(SlidingWindows.make(PAPER).starts(round(seconds * 16_000))) == windows


def test_the_paper_carries_the_generated_second_half_over():
  windows, ids = SlidingWindows.make(PAPER), np.arange(2250)[None]
  given = windows.carry_over(ids)[0]
  np.testing.assert_array_equal(given[:125], np.arange(125, 250))
  np.testing.assert_array_equal(given[250:1250], np.arange(1250, 2250))
  assert not given[125:250].any() and not given[1250:].any()


@pytest.mark.parametrize(
  ("overlap", "hop_samples", "spans", "given"),
  [
    (0, 32, (), []),
    (1, 24, ((0, 1), (4, 8)), [(0, 3), (4, 16), (7, 19)]),
    (2, 16, ((0, 2), (4, 12)), [(0, 2), (1, 3), (4, 12), (11, 19)]),
    (3, 8, ((0, 3), (4, 16)), [(0, 1), (2, 3), (4, 8), (15, 19)]),
  ],
)
def test_other_overlaps_by_hand(overlap, hop_samples, spans, given):
  windows = SlidingWindows.make(SMALL, overlap)
  assert windows.hop_samples == hop_samples
  assert windows.forced_spans(1) == spans
  carried = windows.carry_over(np.arange(100, 120))
  assert [carried[position] for position, _ in given] == [100 + source for _, source in given]
  assert np.count_nonzero(carried) == sum(stop - start for start, stop in spans)


@pytest.mark.parametrize("overlap", [0, 1, 2, 3])
def test_the_given_codes_are_the_ones_in_the_same_place_of_the_song(overlap):
  """Every position has its time in the song; what is carried over must not move."""
  windows = SlidingWindows.make(SMALL, overlap)
  hop_seconds = 4 - overlap
  semantic_times = np.arange(4.0)
  coarse_times = np.repeat(np.arange(8) / 2, 2)
  times = np.concatenate([semantic_times, coarse_times]) + 1  # 0 stands for "not given"
  given = windows.carry_over(times)
  for start, stop in windows.forced_spans(1):
    np.testing.assert_array_equal(given[start:stop], times[start:stop] + hop_seconds)


def test_added_codes_join_to_one_stream():
  """Windows whose coarse codes tell the frame they stand for."""
  windows = SlidingWindows.make(SMALL, 1)
  pieces = []
  for window in range(3):
    frames = 6 * window + np.arange(8)
    acoustic = np.stack([frames, frames], axis=-1)
    ids = SMALL.encode(np.zeros(4, int), acoustic)[None]
    pieces.append(windows.added_codes(ids, window))
  stream = np.concatenate(pieces, axis=1)
  np.testing.assert_array_equal(stream[0, :, 0], np.arange(20))
  assert windows.boundaries(3) == [0, 8, 14, 20]


def test_a_target_without_semantic_codes_has_one_span():
  windows = SlidingWindows.make(layout("a"))
  assert windows.forced_spans(1) == ((0, 1000),)
  np.testing.assert_array_equal(windows.carry_over(np.arange(2000))[:1000], np.arange(1000, 2000))
  assert SlidingWindows.make(layout("a"), 0.02).forced_spans(1) == ((0, 4),)


def test_the_default_is_the_next_shorter_overlap_that_divides():
  assert SlidingWindows.make(layout(window_seconds=1)).overlap_seconds == pytest.approx(0.48)
  assert SlidingWindows.make(layout("a", window_seconds=1)).overlap_seconds == pytest.approx(0.5)


@pytest.mark.parametrize("overlap", [-0.04, 0.02, 4.99, 10, 12, float("nan")])
def test_an_overlap_that_does_not_divide_is_refused_with_those_that_do(overlap):
  with pytest.raises(InputError, match=r"0 and the multiples of 0\.04 s below 10 s are"):
    SlidingWindows.make(PAPER, overlap)


@pytest.mark.parametrize(
  ("num_frames", "available", "starts"),
  [
    (150, 500, [0]),
    (151, 500, [0, 150]),
    (500, 500, [0, 150, 300, 350]),  # the last repeats 300 … 349's first 100 frames
    (450, 500, [0, 150, 300]),
    (1, 150, [0]),
    (750, 750, [0, 150, 300, 450, 600]),
  ],
)
def test_chunks(num_frames, available, starts):
  assert chunk_starts(num_frames, available, 150) == starts


@pytest.mark.parametrize(("num_frames", "available"), [(10, 149), (501, 500)])
def test_too_few_frames_for_chunks(num_frames, available):
  with pytest.raises(ValueError, match=f"there are {available}"):
    chunk_starts(num_frames, available, 150)


def test_a_stream_reads_across_its_pieces():
  boundaries = [0, 5, 8, 10]
  whole = np.arange(2 * 10 * 3).reshape(2, 10, 3)
  overlapping = [whole[:, :5], whole[:, 3:8], whole[:, 5:10]]
  stream = CodeStream(boundaries, lambda i: overlapping[i])
  assert stream.num_frames == 10
  for start in range(10):
    for stop in range(start + 1, 11):
      np.testing.assert_array_equal(stream.read(start, stop), whole[:, start:stop])
