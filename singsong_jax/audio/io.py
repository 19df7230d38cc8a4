"""Reading and writing audio files."""

import contextlib
import numbers
import os
import pathlib
import wave
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import soundfile

from singsong_jax import files
from singsong_jax.errors import InputError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
MAX_CHANNELS = 2  # The mean of more (5.1: mostly ambience) is not a mix-down.
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_WAV_BYTES = 2**32 - 2**10


def audio_files(folder: str | os.PathLike) -> list[pathlib.Path]:
  """The audio files of a folder and its subfolders, by their names, sorted; hidden ones are left out."""
  found = pathlib.Path(folder).rglob("[!.]*")
  return sorted(path for path in found if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())


class AudioInfo(NamedTuple):
  """What a file's header says."""

  channels: int
  sample_rate_hz: int
  seconds: float


def audio_info(path: str | os.PathLike, max_channels: int = MAX_CHANNELS) -> AudioInfo:
  """Channels, rate and length of an audio file, from its header alone: use it before a large read.

  Raises:
    InputError: as `read_audio`, except for what only the samples can tell.
  """
  with _opened(path, max_channels) as sound:
    return AudioInfo(sound.channels, sound.samplerate, sound.frames / sound.samplerate)


def read_audio(path: str | os.PathLike) -> tuple[np.ndarray, int]:
  """Reads a whole wav, flac, mp3, ogg … file.

  A WAV file that was cut short gives the samples it still has.

  Returns:
    The waveform, float32 [channels, samples], full scale ±1, and its sample rate in Hz.

  Raises:
    InputError: the file is missing, not audio, damaged, empty, holds NaN or infinity, or has a rate
      or number of channels this program does not take.
  """
  with _opened(path) as sound:
    waveform, sample_rate_hz = sound.read(dtype="float32", always_2d=True).T, sound.samplerate
  if not waveform.size:
    raise InputError(f"{path} holds no samples")
  require_finite(waveform, path)
  return np.ascontiguousarray(waveform), sample_rate_hz


def read_blocks(
  path: str | os.PathLike, block_samples: int, max_channels: int = MAX_CHANNELS
) -> Iterator[np.ndarray]:
  """What `read_audio` reads, float32 [channels, ≤ block_samples] at a time. NaN and infinity are let pass.

  Raises:
    InputError: as `read_audio`, when the block in question is due.
  """
  with _opened(path, max_channels) as sound:
    while len(block := sound.read(block_samples, dtype="float32", always_2d=True)):
      yield np.ascontiguousarray(block.T)


def to_mono(waveform: np.ndarray) -> np.ndarray:
  """The mean of the channels: [channels, samples] → [samples]."""
  return waveform.mean(axis=0)


@contextlib.contextmanager
def wav_writer(
  path: str | os.PathLike, sample_rate_hz: int, channels: int, bits: int = 24
) -> Iterator[Callable[[np.ndarray], None]]:
  """Yields a function that appends blocks, float [channels, samples], to a new PCM WAV file.

  The file appears in one rename when the context is left.

  Raises:
    InputError: a sample is beyond ±1 (it would clip) or not finite, or the file cannot be written.
  """
  written = 0

  def write(block: np.ndarray) -> None:
    nonlocal written
    require_finite(block, path, written)
    peak = np.abs(block).max(initial=0.0)
    if peak > 1:
      raise InputError(f"{path} would clip: its peak is {peak:.4f}, the limit is 1; scale it down first")
    sound.writeframesraw(_pcm(block, bits))
    written += block.shape[-1]

  # Not libsndfile: it does not say what is wrong with a file it cannot write (a full disk, say).
  with files.replacing(path) as temporary, wave.open(str(temporary), "wb") as sound:
    sound.setparams((channels, bits // 8, sample_rate_hz, 0, "NONE", ""))
    yield write


def write_wav(path: str | os.PathLike, waveform: np.ndarray, sample_rate_hz: int, bits: int = 24) -> None:
  """Writes `waveform`, [channels, samples] or [samples], with `wav_writer`."""
  waveform = np.atleast_2d(waveform)
  with wav_writer(path, sample_rate_hz, len(waveform), bits) as write:
    write(waveform)


def check_wav_size(num_samples: int, channels: int, bits: int = 24) -> None:
  """Raises InputError where a WAV file, whose sizes are 32 bit numbers, cannot hold that many samples."""
  size = num_samples * channels * bits // 8
  if size > MAX_WAV_BYTES:
    raise InputError(
      f"a WAV file of {num_samples:,} samples × {channels} channels would take {size:,} bytes; the format "
      f"ends at {MAX_WAV_BYTES:,}; lower the sample rate or cut the file"
    )


def _pcm(block: np.ndarray, bits: int) -> bytes:
  """Float [channels, samples] within ±1 to interleaved little-endian integers, the ones libsndfile makes."""
  scaled = np.minimum(np.rint(block.T.astype(np.float64) * 2**31), 2**31 - 1).astype("<i4")
  highest_bytes = np.ascontiguousarray(scaled)[..., None].view(np.uint8)[..., 4 - bits // 8 :]
  return highest_bytes.tobytes()


@contextlib.contextmanager
def _opened(path: str | os.PathLike, max_channels: int = MAX_CHANNELS) -> Iterator[soundfile.SoundFile]:
  """Opens a file to read from; what libsndfile complains about, then or later, becomes an InputError."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(f"cannot read {path}: " + ("it is not a file" if path.exists() else "no such file"))
  if not path.stat().st_size:
    raise InputError(f"{path} is empty (0 bytes)")
  try:
    with soundfile.SoundFile(path) as sound:
      _check_header(sound, path, max_channels)
      yield sound
  except soundfile.LibsndfileError as error:
    raise InputError(
      f"{path} is damaged, or not audio that libsndfile reads: {error.error_string}"
    ) from error


def _check_header(sound: soundfile.SoundFile, path: pathlib.Path, max_channels: int) -> None:
  if sound.channels > max_channels:
    raise InputError(f"{path} has {sound.channels} channels; mix it down to mono or stereo first")
  check_rate(sound.samplerate, path)


def check_rate(sample_rate_hz: int, name: str | os.PathLike) -> None:
  """Raises InputError for a sample rate that is no whole number or that no audio has."""
  whole = isinstance(sample_rate_hz, numbers.Integral)
  if not whole or not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
    raise InputError(
      f"{name} has {sample_rate_hz!r} Hz; whole numbers from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz work"
    )


def require_finite(waveform: np.ndarray, name: str | os.PathLike, first_sample: int = 0) -> None:
  """Raises InputError naming the first sample of `waveform`, [channels, samples], that is NaN or infinite.

  `first_sample` is where the waveform stands in the whole it is a block of.
  """
  bad = np.argwhere(~np.isfinite(waveform))
  if len(bad):
    channel, sample = bad[0]
    raise InputError(
      f"{name}: {len(bad)} samples are not finite, the first is {waveform[channel, sample]} "
      f"at sample {first_sample + sample} of channel {channel}"
    )
