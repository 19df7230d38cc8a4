"""Stage 2: a song → mono clips of 10 s at 44.1 kHz, one after another; the remainder is dropped.

A song is read twice, block by block, in memory that does not grow with its length: first to see that it is
whole (a song that is damaged somewhere gives no clip at all), then to cut it.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song, split_reference
from singsong_jax import storage
from singsong_jax.audio import ffmpeg
from singsong_jax.audio.downmix import MAX_CHANNELS, downmix
from singsong_jax.audio.io import audio_info, check_rate, read_blocks, require_finite
from singsong_jax.audio.resampling import resample_blocks
from singsong_jax.audio.separation.base import Clip
from singsong_jax.audio.tracks import BLOCK_SAMPLES, reblock
from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import whole_frames


class LoadedSong(NamedTuple):
  """A song that has been read through.

  Attributes:
    seconds: its length.
    clips: reads it again, cut.
  """

  seconds: float
  clips: Callable[[], Iterator[Clip]]


@contextlib.contextmanager
def load_song(
  song: Song, window_seconds: float, listen: Callable[[Iterator[np.ndarray]], None] | None = None
) -> Iterator[LoadedSong]:
  """Reads a song through; inside the context it can be cut.

  Args:
    listen: is given the mix while that is read: mono blocks float32 `[n]` at 44.1 kHz, to go through to the
    end.

  Raises:
    InputError: it cannot be used (`read_audio` says why), or is shorter than one clip.
  """
  with _local(song) as files:
    blocks = _counted(_mixes(song, files))
    (listen or _exhaust)(blocks)
    seconds = blocks.num_samples / SONG_RATE_HZ
    if seconds < window_seconds:
      raise InputError(f"too_short: {seconds:.2f} s, a clip takes {window_seconds:g} s")
    yield LoadedSong(seconds, lambda: _cut(song, files, window_seconds))


def song_seconds(song: Song) -> float:
  """The length its files state. Raises InputError where they cannot be read."""
  with _local(song) as files:
    references = song.vocals or (song.path,)
    return max(_header(*_place(reference, files)).seconds for reference in references)


class _counted:
  """Blocks that count what has gone by."""

  def __init__(self, blocks: Iterator[np.ndarray]):
    self._blocks = blocks
    self.num_samples = 0

  def __iter__(self):
    return self

  def __next__(self) -> np.ndarray:
    block = next(self._blocks)
    self.num_samples += len(block)
    return block


def _exhaust(blocks: Iterable) -> None:
  for _ in blocks:
    pass


@contextlib.contextmanager
def _local(song: Song) -> Iterator[dict[str, str]]:
  """The song's files → where they can be read on this machine."""
  with contextlib.ExitStack() as stack:
    yield {path: str(stack.enter_context(storage.local(path))) for path in song.files}


def _mixes(song: Song, files: dict[str, str]) -> Iterator[np.ndarray]:
  return (block[0] for block in _parts(song, files))


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
    yield from (block[None] for block in _blocks(files[song.path], 0))
    return
  stems = [_sum(_blocks(*_place(name, files)) for name in stem) for stem in (song.vocals, song.instrumental)]
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


def _blocks(path: str, stream: int) -> Iterator[np.ndarray]:
  """One stream of a file: mono float32 `[n]` at 44.1 kHz. Raises InputError as `read_audio`."""
  header = _header(path, stream)
  check_rate(header.sample_rate_hz, path)
  mono = _checked(_raw_blocks(path, stream, header.channels), path)
  if header.sample_rate_hz == SONG_RATE_HZ:
    yield from mono
    return
  for block in resample_blocks(mono, header.sample_rate_hz, SONG_RATE_HZ):
    yield block.astype(np.float32, copy=False)


def _raw_blocks(path: str, stream: int, channels: int) -> Iterator[np.ndarray]:
  """As the file has it: float32 `[channels, n]`."""
  if _by_ffmpeg(path):
    return ffmpeg.read_blocks(path, channels, BLOCK_SAMPLES, stream)
  return read_blocks(path, BLOCK_SAMPLES, MAX_CHANNELS)


def _checked(blocks: Iterator[np.ndarray], path: str) -> Iterator[np.ndarray]:
  """Finite and mono."""
  done = 0
  for block in blocks:  # [channels, n]
    require_finite(block, path, done)
    done += block.shape[-1]
    yield downmix(block)
  if not done:
    raise InputError(f"{path} holds no samples")


def _header(path: str, stream: int):
  """Channels, rate and seconds."""
  return ffmpeg.probe(path, stream) if _by_ffmpeg(path) else audio_info(path, MAX_CHANNELS)


def _by_ffmpeg(path: str) -> bool:
  return path.lower().endswith(ffmpeg.SUFFIXES)


def stem_channels(song: Song, window_seconds: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """The true stems of a song cut into clips, with their channels: vocals and instrumental, float32 `[2, n]`.

  Raises:
    InputError: a stem is neither mono nor stereo, or does not have 44.1 kHz.
  """
  size = whole_frames(window_seconds, SONG_RATE_HZ, "SONG_RATE_HZ")
  with _local(song) as files:
    parts = [reblock(_stereo(*_place(name, files)), size) for name in (*song.vocals, *song.instrumental)]
    for blocks in zip(*parts):
      if min(block.shape[-1] for block in blocks) < size:
        return
      of_vocals = len(song.vocals)
      yield np.sum(blocks[:of_vocals], axis=0), np.sum(blocks[of_vocals:], axis=0)


def _stereo(path: str, stream: int) -> Iterator[np.ndarray]:
  header = _header(path, stream)
  if header.channels > 2 or header.sample_rate_hz != SONG_RATE_HZ:
    raise InputError(
      f"{path} has {header.channels} channels and {header.sample_rate_hz} Hz; expected mono or stereo at "
      f"{SONG_RATE_HZ}"
    )
  blocks = _raw_blocks(path, stream, header.channels)
  return (np.broadcast_to(block, (2, block.shape[-1])) for block in blocks)
