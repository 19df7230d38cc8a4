"""Stage 2: a song → mono clips of 10 s at 44.1 kHz, one after another; the remainder is dropped.

A song is read twice, block by block, in memory that does not grow with its length: first to see that it is
whole (a song that is damaged somewhere gives no clip at all), then to cut it.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song, split_reference
from data_pipelines.streams import header, mono_blocks, stereo_blocks
from singsong_jax import storage
from singsong_jax.audio.separation.base import Clip
from singsong_jax.audio.tracks import BLOCK_SAMPLES, reblock
from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import whole_frames

Hear = Callable[[Iterator[np.ndarray]], Any]


class LoadedSong(NamedTuple):
  """A song that has been read through.

  Attributes:
    seconds: its length.
    heard: what `hear` of `load_song` gave.
    clips: reads it again, cut.
  """

  seconds: float
  heard: Any
  clips: Callable[[], Iterator[Clip]]


def exhaust(blocks: Iterator[np.ndarray]) -> None:
  """Goes through them."""
  for _ in blocks:
    pass


@contextlib.contextmanager
def load_song(song: Song, window_seconds: float, hear: Hear = exhaust) -> Iterator[LoadedSong]:
  """Reads a song through; inside the context it can be cut.

  Args:
    hear: goes through the mix while that is read: blocks float32 `[n]` at 44.1 kHz.

  Raises:
    InputError: it cannot be used (`read_audio` says why), or is shorter than one clip.
  """
  with _local(song) as files:
    lengths: list[int] = []
    heard = hear(_mixes(song, files, lengths))
    seconds = sum(lengths) / SONG_RATE_HZ
    if seconds < window_seconds:
      raise InputError(f"too_short: {seconds:.2f} s, a clip takes {window_seconds:g} s")
    yield LoadedSong(seconds, heard, lambda: _cut(song, files, window_seconds))


def song_seconds(song: Song) -> float:
  """The length its files state. Raises InputError where they cannot be read."""
  with _local(song) as files:
    references = song.vocals or (song.path,)
    return max(header(*_place(reference, files)).seconds for reference in references)


@contextlib.contextmanager
def _local(song: Song) -> Iterator[dict[str, str]]:
  """The song's files → where they can be read on this machine."""
  with contextlib.ExitStack() as stack:
    yield {path: str(stack.enter_context(storage.local(path))) for path in song.files}


def _mixes(song: Song, files: dict[str, str], lengths: list[int]) -> Iterator[np.ndarray]:
  """The mix in blocks `[n]`, whose lengths are noted."""
  for block in _parts(song, files):
    lengths.append(block.shape[-1])
    yield block[0]


def _cut(song: Song, files: dict[str, str], window_seconds: float) -> Iterator[Clip]:
  size = whole_frames(window_seconds, SONG_RATE_HZ, "SONG_RATE_HZ")
  for index, part in enumerate(reblock(_parts(song, files), size)):
    if part.shape[-1] < size:
      return
    yield Clip(
      mix=np.ascontiguousarray(part[0]),
      sample_rate_hz=SONG_RATE_HZ,
      song=song.id,
      offset_seconds=index * window_seconds,
      vocals=np.ascontiguousarray(part[1]) if song.vocals else None,
    )


def _parts(song: Song, files: dict[str, str]) -> Iterator[np.ndarray]:
  """Mix, and the true vocals where there are any: float32 `[1 or 2, n]`, at 44.1 kHz."""
  if not song.vocals:
    yield from (block[None] for block in mono_blocks(files[song.path], 0))
    return
  stems = [
    _sum(mono_blocks(*_place(name, files)) for name in stem) for stem in (song.vocals, song.instrumental)
  ]
  for vocals, instrumental in _aligned(stems):
    yield np.stack([vocals + instrumental, vocals])


def _place(reference: str, files: dict[str, str]) -> tuple[str, int]:
  path, stream = split_reference(reference)
  return files[path], stream


def _sum(parts: Iterable[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
  return (np.sum(blocks, axis=0, dtype=np.float32) for blocks in _aligned(list(parts)))


def _aligned(streams: list[Iterator[np.ndarray]]) -> Iterator[tuple[np.ndarray, ...]]:
  """Blocks of equal lengths from each stream; those that end sooner go on with zeros."""
  even = [reblock(stream, BLOCK_SAMPLES) for stream in streams]
  for blocks in itertools.zip_longest(*even, fillvalue=np.zeros(0, np.float32)):
    longest = max(map(len, blocks))
    yield tuple(np.pad(block, (0, longest - len(block))) for block in blocks)


def stem_channels(song: Song, window_seconds: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """The true stems of a song cut into clips, with their channels: vocals and instrumental, float32 `[2, n]`.

  Raises:
    InputError: a stem is neither mono nor stereo, or does not have 44.1 kHz.
  """
  size = whole_frames(window_seconds, SONG_RATE_HZ, "SONG_RATE_HZ")
  with _local(song) as files:
    parts = [
      reblock(stereo_blocks(*_place(name, files)), size) for name in (*song.vocals, *song.instrumental)
    ]
    for blocks in zip(*parts):
      if min(block.shape[-1] for block in blocks) < size:
        return
      of_vocals = len(song.vocals)
      yield np.sum(blocks[:of_vocals], axis=0), np.sum(blocks[of_vocals:], axis=0)
