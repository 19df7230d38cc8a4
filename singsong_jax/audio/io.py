"""Reading, resampling and writing audio files."""

import contextlib
import io
import math
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.signal
import soundfile

from singsong_jax import files
from singsong_jax.errors import InputError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
MAX_CHANNELS = 2  # The mean of more (5.1: mostly ambience) is not a mix-down.
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000


class AudioInfo(NamedTuple):
  """What a file's header says."""

  channels: int
  sample_rate_hz: int
  seconds: float


def audio_info(path: str | os.PathLike) -> AudioInfo:
  """Channels, rate and length of an audio file, from its header alone: use it before a large read.

  Raises:
    InputError: as `read_audio`, except for what only the samples can tell.
  """
  with _opened(path) as sound:
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
  _require_finite(waveform, path)
  return np.ascontiguousarray(waveform), sample_rate_hz


def to_mono(waveform: np.ndarray) -> np.ndarray:
  """The mean of the channels: [channels, samples] → [samples]."""
  return waveform.mean(axis=0)


def resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
  """Polyphase resampling with a Kaiser window: [..., n] → [..., ceil(n · to_hz / from_hz)].

  It is linear and the same for every signal, so stems that sum to a mix still do afterwards.
  """
  divisor = math.gcd(from_hz, to_hz)
  return scipy.signal.resample_poly(
    waveform, to_hz // divisor, from_hz // divisor, axis=-1, window=("kaiser", 5.0)
  )


def write_wav(
  path: str | os.PathLike, waveform: np.ndarray, sample_rate_hz: int, subtype: str = "PCM_24"
) -> None:
  """Writes `waveform`, [channels, samples] or [samples], as a WAV file in one rename.

  Raises:
    InputError: a sample is beyond ±1 (it would clip) or not finite, or the file cannot be written.
  """
  waveform = np.atleast_2d(waveform)
  _require_finite(waveform, path)
  peak = np.abs(waveform).max(initial=0.0)
  if peak > 1:
    raise InputError(f"{path} would clip: its peak is {peak:.4f}, the limit is 1; scale it down first")
  # Encoded in memory first: libsndfile does not report a full disk as the OSError `replacing` turns
  # into a message.
  encoded = io.BytesIO()
  soundfile.write(encoded, waveform.T, sample_rate_hz, subtype=subtype, format="WAV")
  with files.replacing(path) as temporary:
    temporary.write_bytes(encoded.getvalue())


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[soundfile.SoundFile]:
  """Opens a file to read from; what libsndfile complains about, then or later, becomes an InputError."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(f"cannot read {path}: " + ("it is not a file" if path.exists() else "no such file"))
  if not path.stat().st_size:
    raise InputError(f"{path} is empty (0 bytes)")
  try:
    with soundfile.SoundFile(path) as sound:
      _check_header(sound, path)
      yield sound
  except soundfile.LibsndfileError as error:
    raise InputError(
      f"{path} is damaged, or not audio that libsndfile reads: {error.error_string}"
    ) from error


def _check_header(sound: soundfile.SoundFile, path: pathlib.Path) -> None:
  if sound.channels > MAX_CHANNELS:
    raise InputError(f"{path} has {sound.channels} channels; mix it down to mono or stereo first")
  if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
    raise InputError(f"{path} has {sound.samplerate} Hz; usable: {MIN_RATE_HZ} … {MAX_RATE_HZ} Hz")


def _require_finite(waveform: np.ndarray, path: str | os.PathLike) -> None:
  bad = np.argwhere(~np.isfinite(waveform))
  if len(bad):
    channel, sample = bad[0]
    raise InputError(
      f"{path}: {len(bad)} samples are not finite, the first is {waveform[channel, sample]} "
      f"at sample {sample} of channel {channel}"
    )
