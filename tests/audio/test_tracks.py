import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.audio.io import write_wav
from singsong_jax.audio.tracks import (
  BLOCK_SAMPLES,
  ArrayTrack,
  FileTrack,
  RawTrack,
  cut_windows,
  first_seconds,
  reblock,
)
from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import cut_window, window_starts

LONG = np.random.default_rng(0).uniform(-0.9, 0.9, (1, BLOCK_SAMPLES + 1_000)).astype(np.float32)


def joined(track):
  return np.concatenate(list(track.blocks()), axis=-1)


def make_tracks(folder):
  write_wav(folder / "x.wav", LONG, 16_000)
  raw = RawTrack(folder / "x.f32", 16_000)
  raw.write([LONG[:, :77], LONG[:, 77:]])
  return ArrayTrack(LONG, 16_000, "array"), FileTrack(folder / "x.wav"), raw


def test_every_kind_gives_the_same_blocks_again_and_again(tmp_path):
  for track in make_tracks(tmp_path):
    assert track.sample_rate_hz == 16_000
    for _ in range(2):
      assert [block.shape for block in track.blocks()] == [(1, BLOCK_SAMPLES), (1, 1_000)]
      np.testing.assert_allclose(joined(track), LONG, atol=2**-22)


def test_a_raw_track_holds_the_very_samples_and_takes_no_halves(tmp_path):
  raw = RawTrack(tmp_path / "x.f32", 16_000)
  raw.write([LONG])
  np.testing.assert_array_equal(joined(raw), LONG)

  def broken():
    yield LONG
    raise RuntimeError

  with pytest.raises(RuntimeError):
    RawTrack(tmp_path / "y.f32", 16_000).write(broken())
  assert [path.name for path in tmp_path.iterdir()] == ["x.f32"]


def test_missing_files_are_named(tmp_path):
  with pytest.raises(InputError, match=r"x\.f32"):
    next(RawTrack(tmp_path / "x.f32", 16_000).blocks())
  with pytest.raises(InputError, match=r"x\.wav: no such file"):
    FileTrack(tmp_path / "x.wav")


def test_the_beginning(tmp_path):
  for track in make_tracks(tmp_path):
    np.testing.assert_allclose(first_seconds(track, 0.5), LONG[:, :8_000], atol=2**-22)
    assert first_seconds(track, 1e4).shape == LONG.shape


@given(
  st.lists(st.integers(1, 20), min_size=1, max_size=10), st.integers(1, 30), st.none() | st.integers(0, 50)
)
def test_reblocking_keeps_the_samples(lengths, size, limit):
  whole = np.arange(sum(lengths))
  blocks = list(reblock(np.split(whole, np.cumsum(lengths)[:-1]), size, limit))
  np.testing.assert_array_equal(np.concatenate([whole[:0], *blocks]), whole[:limit])
  assert all(len(block) == size for block in blocks[:-1])
  assert all(0 < len(block) <= size for block in blocks)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12), st.integers(1, 25))
def test_windows_of_blocks_are_those_of_the_whole(num_samples, window, hop, block):
  whole = np.arange(1, num_samples + 1, dtype=np.float32)
  starts = window_starts(num_samples, window, min(hop, window))
  blocks = (whole[i : i + block] for i in range(0, num_samples, block))
  windows = list(cut_windows(blocks, starts, window))
  np.testing.assert_array_equal(windows, [cut_window(whole, start, window) for start in starts])
