"""Where the audio of a training is: pieces of at most 10 s, in a data directory's clips or in audio files."""

import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import pathlib
import struct
from collections.abc import Iterator

import numpy as np
import soundfile
import tensorflow as tf

from singsong_jax.audio.io import AUDIO_SUFFIXES, audio_files, audio_info, to_mono
from singsong_jax.audio.resampling import resample
from singsong_jax.errors import InputError
from tasks.schema import SPLITS, split_of_song

UNIT_SECONDS = 10.0  # of an audio file; a clip is one as it is
_FOLDER_FRACTIONS = (0.05, 0.05)  # validation, test: of a folder of audio, by song
_STEMS = ("vocals", "instrumental")


@dataclasses.dataclass(frozen=True)
class Unit:
  """A piece of a song.

  Attributes:
    path: an audio file, or a TFRecord file of clips.
    offset: where the piece begins: in seconds, or the byte of its record.
    song: its name.
    seconds: its length in an audio file; a clip knows its own.
  """

  path: str
  offset: float | int
  song: str
  seconds: float = math.inf


@dataclasses.dataclass(frozen=True)
class AudioUnits:
  """All pieces of one split.

  Attributes:
    root: where they were found.
    units: in the order of their songs' names.
    are_clips: records of `clips/`, rather than audio files.
  """

  root: pathlib.Path
  units: tuple[Unit, ...]
  are_clips: bool

  def __len__(self) -> int:
    return len(self.units)

  def name(self, index: int) -> str:
    """For messages."""
    return f"{self.units[index].song}@{self.units[index].offset}"

  def fingerprint(self) -> str:
    """SHA-256 (hex) of the songs and where their pieces begin; not of what they sound like."""
    text = "\n".join(f"{unit.song}\t{unit.offset}" for unit in self.units)
    return hashlib.sha256(text.encode()).hexdigest()

  def read(self, index: int, stream: str, rate_hz: int, seconds: float, place: float) -> np.ndarray:
    """Part of a unit.

    Args:
      stream: 'vocals', 'instrumental' or 'mix'. A folder's files are what they are, whichever is asked for.
      rate_hz: wanted.
      seconds: wanted.
      place: 0 is the earliest part, 1 the latest.

    Returns:
      float32 `[≤ seconds · rate_hz]`, shorter where the unit is.

    Raises:
      InputError: the file cannot be read.
    """
    unit = self.units[index]
    try:
      if not self.are_clips:
        return _read_part(unit.path, unit.offset, unit.seconds, rate_hz, seconds, place)
      stems = _STEMS if stream == "mix" else (stream,)
      features = _clip_features(unit.path, unit.offset)
      parts = [_read_stem(features, stem, rate_hz, seconds, place) for stem in stems]
      return np.sum(parts, axis=0, dtype=np.float32)
    except (OSError, soundfile.SoundFileError) as error:
      raise InputError(f"cannot read {unit.path} at {unit.offset}: {error}") from error


def find_units(data_dir: str | os.PathLike, split: str) -> AudioUnits:
  """The audio of `data_dir`: a data directory with `clips/`, or any folder of audio files.

  Raises:
    InputError: no such folder or split, or no audio in it.
  """
  root = pathlib.Path(data_dir)
  if split not in SPLITS:
    raise InputError(f"split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
  if not root.is_dir():
    raise InputError(
      f"{root} is not a folder; give a data directory of data_pipelines.prepare, or one of audio"
    )
  are_clips = (root / "job.json").exists()
  if are_clips and not (root / "clips").is_dir():
    raise InputError(
      f"{root} has no clips/: they were deleted (--keep_clips=false), or are those of another data directory "
      "(--clips_from), which you can give instead"
    )
  units = tuple(_units_of_clips(root, split) if are_clips else _units_of_files(root, split))
  if not units:
    what = "clips" if are_clips else f"audio files ({', '.join(AUDIO_SUFFIXES)})"
    raise InputError(f"{root} has no {what} of the {split} split; add songs (they are split by name)")
  return AudioUnits(root, units, are_clips)


def _units_of_clips(root: pathlib.Path, split: str) -> Iterator[Unit]:
  members = _songs_of(root, split)
  for path in sorted((root / "clips").glob("*/[!.]*.tfrecord")):  # not what is being written
    for offset in _record_offsets(path):
      song = _clip_features(str(path), offset)["song_id"].bytes_list.value[0].decode()
      if song not in members:
        break  # a file is one song
      yield Unit(str(path), offset, song)


def _songs_of(root: pathlib.Path, split: str) -> set[str]:
  """The ids of a split's songs: data sets may have splits of their own."""
  lists = sorted((root / "songs").glob(f"{split}-*.jsonl"))
  return {json.loads(line)["id"] for path in lists for line in path.read_text().splitlines()}


def _units_of_files(root: pathlib.Path, split: str) -> Iterator[Unit]:
  for path in audio_files(root):
    song = path.relative_to(root).as_posix()
    if split_of_song(song, *_FOLDER_FRACTIONS) == split:
      seconds = audio_info(path).seconds
      count = max(1, int(seconds // UNIT_SECONDS))
      for number in range(count):  # the last has what is left over, too
        offset = number * UNIT_SECONDS
        yield Unit(str(path), offset, song, UNIT_SECONDS if number < count - 1 else seconds - offset)


def _record_offsets(path: pathlib.Path) -> Iterator[int]:
  """Where the records of a TFRecord file begin: length (8 bytes), its checksum (4), data, checksum (4)."""
  size = path.stat().st_size
  with open(path, "rb") as file:
    while header := file.read(12):
      end = file.tell() + struct.unpack("<Q", header.ljust(12, b"\xff")[:8])[0] + 4
      if end > size:
        raise InputError(f"{path} is cut short; make the clips again")
      yield file.tell() - 12
      file.seek(end)


@functools.lru_cache(maxsize=4)
def _clip_features(path: str, offset: int):
  with open(path, "rb") as file:
    file.seek(offset)
    (length,) = struct.unpack("<Q", file.read(12)[:8])
    data = file.read(length)
  try:
    return tf.train.Example.FromString(data).features.feature
  except Exception as error:  # protobuf's DecodeError has no stable import path
    raise InputError(
      f"{path}: the record at byte {offset} is damaged ({error}); make the clips again"
    ) from error


def _read_stem(features, stem: str, rate_hz: int, seconds: float, place: float) -> np.ndarray:
  encoded = features[f"{stem}_flac"].bytes_list.value[0]
  gain = features[f"{stem}_gain"].float_list.value[0]
  return _read_part(io.BytesIO(encoded), 0.0, math.inf, rate_hz, seconds, place) * np.float32(gain)


def _read_part(source, start: float, length: float, rate_hz: int, seconds: float, place: float) -> np.ndarray:
  """Up to `seconds` of the `length` seconds of a file from `start` on, mono, at `rate_hz`."""
  with soundfile.SoundFile(source) as sound:
    rate = sound.samplerate
    first = round(start * rate)
    there = min(sound.frames - first, round(min(length, sound.frames / rate) * rate))
    wanted = min(there, -(-round(seconds * rate_hz) * rate // rate_hz))
    sound.seek(first + int(place * (there - wanted)))
    waveform = to_mono(sound.read(wanted, dtype="float32", always_2d=True).T)
  return resample(waveform, rate, rate_hz).astype(np.float32) if rate != rate_hz else waveform
