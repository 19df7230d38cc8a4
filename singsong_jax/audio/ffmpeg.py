"""Audio that libsndfile does not read (m4a, webm, wma, a stream of .stem.mp4 …), through the program
ffmpeg.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np

from singsong_jax.audio.io import AudioInfo
from singsong_jax.errors import InputError

SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".mka", ".mkv", ".ape", ".wv", ".tta", ".ac3", ".3gp")


def probe(path: str | os.PathLike, stream: int = 0) -> AudioInfo:
  """The header of an audio stream, counted from 0; 0 seconds where it does not say.

  Raises:
    InputError: no ffmpeg on the PATH, no such file, or no such stream in it.
  """
  query = ["-select_streams", f"a:{stream}", "-show_streams", "-show_format", "-of", "json"]
  done = subprocess.run(
    [_program("ffprobe", path), "-v", "error", *query, _url(path)], capture_output=True, check=False
  )
  if done.returncode:
    raise _unreadable(path, done.stderr)
  answer = json.loads(done.stdout)
  if not answer.get("streams"):
    raise InputError(f"{path} has no audio stream {stream}")
  found = answer["streams"][0]
  seconds = found.get("duration") or answer.get("format", {}).get("duration") or 0
  return AudioInfo(int(found["channels"]), int(found["sample_rate"]), float(seconds))


def read_blocks(
  path: str | os.PathLike, channels: int, block_samples: int, stream: int = 0
) -> Iterator[np.ndarray]:
  """A stream at its own rate: float32 `[channels, ≤ block_samples]` at a time.

  Raises:
    InputError: as `probe`, or ffmpeg finds the file damaged.
  """
  command = [_program("ffmpeg", path), "-v", "error", "-xerror", "-nostdin", "-i", _url(path)]
  command += ["-map", f"0:a:{stream}", "-f", "f32le", "-ac", str(channels), "-"]
  with tempfile.TemporaryFile() as errors:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
      assert process.stdout is not None
      try:
        while data := process.stdout.read(block_samples * channels * 4):
          yield np.ascontiguousarray(np.frombuffer(data, "<f4").reshape(-1, channels).T)
      finally:
        process.stdout.close()
        if process.poll() is None:  # the reader has had enough
          process.terminate()
    # What a reader that left early does to ffmpeg is no fault of the file; such a reader does not come here.
    if process.returncode:
      errors.seek(0)
      raise _unreadable(path, errors.read())


def _program(name: str, path: str | os.PathLike) -> str:
  found = shutil.which(name)
  if found is None:
    raise InputError(f"{path}: reading {pathlib.PurePath(path).suffix} needs the program {name} on the PATH")
  return found


def _url(path: str | os.PathLike) -> str:
  """So that a name with a colon is not taken for a protocol."""
  return f"file:{os.fspath(path)}"


def _unreadable(path: str | os.PathLike, stderr: bytes) -> InputError:
  lines = stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
  return InputError(f"{path} is damaged, or not audio that ffmpeg reads: {lines[-1][:300]}")
