"""Waveforms read block by block, again and again, so that a song of hours needs no memory for it."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from singsong_jax import files
from singsong_jax.audio.io import audio_info, read_blocks
from singsong_jax.errors import InputError

BLOCK_SAMPLES = 2**18


class Track(Protocol):
  """A waveform somewhere.

  Attributes:
    name: for messages.
    sample_rate_hz: its rate.
  """

  @property
  def name(self) -> str: ...

  @property
  def sample_rate_hz(self) -> int: ...

  def blocks(self) -> Iterator[np.ndarray]:
    """The whole from the start: float32 `[channels, BLOCK_SAMPLES]`, the last block shorter."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayTrack:
  """A waveform in memory, float `[channels, samples]`."""

  waveform: np.ndarray
  sample_rate_hz: int
  name: str

  def blocks(self) -> Iterator[np.ndarray]:
    for start in range(0, self.waveform.shape[-1], BLOCK_SAMPLES):
      yield self.waveform[:, start : start + BLOCK_SAMPLES].astype(np.float32, copy=False)


@dataclasses.dataclass(frozen=True)
class FileTrack:
  """An audio file, mono or stereo. Raises InputError as `audio.io.read_audio`."""

  path: str | os.PathLike
  sample_rate_hz: int = dataclasses.field(init=False)

  def __post_init__(self):
    object.__setattr__(self, "sample_rate_hz", audio_info(self.path).sample_rate_hz)

  @property
  def name(self) -> str:
    return str(self.path)

  def blocks(self) -> Iterator[np.ndarray]:
    return read_blocks(self.path, BLOCK_SAMPLES)


@dataclasses.dataclass(frozen=True)
class RawTrack:
  """A file of float32 samples and nothing else, mono: what a later step of the same program reads."""

  path: pathlib.Path
  sample_rate_hz: int

  @property
  def name(self) -> str:
    return str(self.path)

  def write(self, blocks: Iterable[np.ndarray]) -> None:
    """Writes float32 `[1, n]` blocks in one rename. Raises InputError where that fails."""
    with files.replacing(self.path) as temporary, open(temporary, "wb") as stream:
      for block in blocks:
        stream.write(np.ascontiguousarray(block, np.float32).data)

  def blocks(self) -> Iterator[np.ndarray]:
    try:
      with open(self.path, "rb") as stream:
        while data := stream.read(BLOCK_SAMPLES * 4):
          yield np.frombuffer(data, np.float32)[None]
    except OSError as error:
      raise InputError(f"cannot read {self.path}: {error.strerror}") from error


def first_seconds(track: Track, seconds: float) -> np.ndarray:
  """The beginning of a track: float32 `[channels, n]`."""
  wanted = round(seconds * track.sample_rate_hz)
  return next(reblock(track.blocks(), wanted, wanted))


def reblock(
  blocks: Iterable[np.ndarray], block_samples: int = BLOCK_SAMPLES, num_samples: int | None = None
) -> Iterator[np.ndarray]:
  """Cuts anew: blocks `[..., n]` of any lengths to `[..., block_samples]`, the last one shorter.

  Args:
    num_samples: ends after so many.
  """
  left = float("inf") if num_samples is None else num_samples
  buffer = None
  for block in blocks:
    buffer = block if buffer is None else np.concatenate([buffer, block], axis=-1)
    while left > 0 and buffer.shape[-1] >= min(block_samples, left):
      size = int(min(block_samples, left))
      yield buffer[..., :size]
      buffer, left = buffer[..., size:], left - size
    if left <= 0:
      return
  if buffer is not None and buffer.shape[-1]:
    yield buffer


def cut_windows(
  blocks: Iterable[np.ndarray], starts: Iterable[int], window_samples: int
) -> Iterator[np.ndarray]:
  """Windows `[window_samples]` of a mono waveform given as blocks `[n]`, zeros past its end.

  Args:
    starts: first samples of the windows, ascending; samples before the present window are forgotten.
  """
  blocks = iter(blocks)
  buffer, first = np.zeros(0, np.float32), 0
  for start in starts:
    while first + len(buffer) < start + window_samples and (block := next(blocks, None)) is not None:
      buffer = np.concatenate([buffer, block])
      forgotten = min(len(buffer), max(0, start - first))
      buffer, first = buffer[forgotten:], first + forgotten
    piece = buffer[start - first : start - first + window_samples]
    yield np.pad(piece, (0, window_samples - len(piece)))
