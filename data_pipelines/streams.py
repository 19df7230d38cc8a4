"""The sound of a file, or of one stream of it, in blocks: whoever reads it, libsndfile or ffmpeg."""

from collections.abc import Iterator

import numpy as np

from data_pipelines.settings import SONG_RATE_HZ
from singsong_jax.audio import ffmpeg
from singsong_jax.audio.downmix import MAX_CHANNELS, downmix
from singsong_jax.audio.io import AudioInfo, audio_info, check_rate, read_blocks, require_finite
from singsong_jax.audio.resampling import resample_blocks
from singsong_jax.audio.tracks import BLOCK_SAMPLES
from singsong_jax.errors import InputError


def mono_blocks(path: str, stream: int) -> Iterator[np.ndarray]:
  """One stream of a file: mono float32 `[n]` at 44.1 kHz. Raises InputError as `read_audio`."""
  found = header(path, stream)
  check_rate(found.sample_rate_hz, path)
  mono = _checked(_raw_blocks(path, stream, found.channels), path)
  if found.sample_rate_hz == SONG_RATE_HZ:
    yield from mono
    return
  for block in resample_blocks(mono, found.sample_rate_hz, SONG_RATE_HZ):
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


def header(path: str, stream: int) -> AudioInfo:
  """Channels, rate and seconds."""
  return ffmpeg.probe(path, stream) if _by_ffmpeg(path) else audio_info(path, MAX_CHANNELS)


def _by_ffmpeg(path: str) -> bool:
  return path.lower().endswith(ffmpeg.SUFFIXES)


def stereo_blocks(path: str, stream: int) -> Iterator[np.ndarray]:
  """float32 `[2, n]`. Raises InputError where it is neither mono nor stereo, or does not have 44.1 kHz."""
  found = header(path, stream)
  if found.channels > 2 or found.sample_rate_hz != SONG_RATE_HZ:
    raise InputError(
      f"{path} has {found.channels} channels and {found.sample_rate_hz} Hz; expected mono or stereo at "
      f"{SONG_RATE_HZ}"
    )
  blocks = _raw_blocks(path, stream, found.channels)
  return (np.broadcast_to(block, (2, block.shape[-1])) for block in blocks)
