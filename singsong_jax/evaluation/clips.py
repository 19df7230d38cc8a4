"""Folders of clips that belong together: the same names, the same lengths."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from singsong_jax.audio.io import AUDIO_SUFFIXES, audio_files, read_audio, to_mono
from singsong_jax.audio.resampling import resample
from singsong_jax.errors import InputError
from singsong_jax.evaluation.songs import STEMS, find_songs

MAX_LENGTH_DIFFERENCE_SECONDS = 0.05  # a codec's frame, rounded
Clips = dict[str, pathlib.Path]
_PARTS = {"mix", "mixture", "vocals", "instrumental", "accompaniment", "bass", "drums", "other"}  # of a song


def find_clips(folder: str | os.PathLike, *parts: str) -> Clips:
  """Name → file, sorted: `NAME.wav` (or another suffix), or `NAME/PART.wav`, as `infer` writes
  instrumentals and folders of songs have vocals. Where there are neither, `SOME/NAME.wav`, named with its
  folder. Of a demo corpus, its stems.

  Args:
    parts: what PART may be; "instrumental" unless it is said.

  Raises:
    InputError: no such folder, no audio in it, two files of one name, or other parts of songs alone.
  """
  parts = parts or ("instrumental",)
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise InputError(f"{folder} is not a folder of clips" + ("" if root.exists() else ": it does not exist"))
  if (root / STEMS).is_dir() and not {"mix", "mixture"} & {*parts}:
    root = root / STEMS
  found: Clips = {}
  paths = {path: path.relative_to(root).with_suffix("") for path in audio_files(root)}
  known = {path: place for path, place in paths.items() if len(place.parts) == 1 or place.name in parts}
  if not known and (others := sorted({place.name for place in paths.values()} & _PARTS)):
    raise InputError(f"{folder} has {', '.join(others)} of songs, and no NAME/{parts[0]}.wav")
  for path, place in (known or paths).items():
    if known and len(place.parts) > 1:
      place = place.parent
    if str(place) in found:
      raise InputError(f"{folder} has two clips {str(place)!r}: {found[str(place)]} and {path}")
    found[str(place)] = path
  if not found:
    raise InputError(f"{folder} holds no clips ({', '.join(AUDIO_SUFFIXES)})")
  return found


def find_mixes(folder: str | os.PathLike) -> "Clips | Mixes":
  """Real mixes: what `find_clips` finds of `NAME/mix.wav` or `NAME/mixture.wav`; in a folder of songs with
  stems alone, as `find_songs` takes it, their sums.

  Raises:
    InputError: as both, or mixes beside stems of other songs.
  """
  root = pathlib.Path(folder)
  paths = audio_files(root)
  stems = {path.parent for path in paths if path.stem in ("vocals", "instrumental")}
  if not stems:
    return find_clips(folder, "mix", "mixture")
  if not (root / STEMS).is_dir():  # else it is laid out as a demo corpus, whose stems are songs
    mixes = {path.parent for path in paths if path.stem in ("mix", "mixture")}
    loose = any(path.parent == root for path in paths)
    if not loose and all(place in mixes or place.parent in mixes for place in stems):
      return find_clips(folder, "mix", "mixture")
    if mixes or loose:
      raise InputError(f"{folder} has stems, and mixes that are not theirs: give songs of one kind")
  songs = find_songs(folder)
  return Mixes({song.name: song.vocals for song in songs}, {song.name: song.instrumental for song in songs})


def named_folders(arguments: Sequence[str], flag: str = "instrumentals") -> dict[str, str]:
  """Name → folder of `--flag=NAME=FOLDER`, as often as it was given. Raises InputError for anything
  else."""
  named: dict[str, str] = {}
  for argument in arguments:
    name, equals, folder = argument.partition("=")
    if not equals or not name or not folder or name in named:
      raise InputError(f"--{flag}={argument}: write NAME=FOLDER, each NAME once")
    named[name] = folder
  return named


@dataclasses.dataclass(frozen=True)
class Mixes:
  """Vocals and the instrumentals that were made for them, to be heard together (SingSong §4.3).

  Attributes:
    vocals, instrumentals: by the same names.
  """

  vocals: Clips
  instrumentals: Clips

  @classmethod
  def pair(cls, vocals: Clips, instrumentals: Clips, where: str) -> "Mixes":
    """Raises InputError, naming `where`, unless both have the same names."""
    missing = sorted(vocals.keys() - instrumentals.keys())
    extra = sorted(instrumentals.keys() - vocals.keys())
    if missing or extra:
      told = [
        f"{len(names)} {what}, {names[0]!r} among them"
        for names, what in ((missing, "vocals have no instrumental"), (extra, "instrumentals have no vocals"))
        if names
      ]
      raise InputError(f"{where}: {'; '.join(told)}")
    return cls(vocals, instrumentals)

  def read(self, rate_hz: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and sum of both, mono float `[samples]`. Raises InputError as `read_mono`, or where lengths
    differ.
    """
    for name in self.vocals:
      parts = [read_mono(clips[name], rate_hz) for clips in (self.vocals, self.instrumentals)]
      shorter, longer = sorted(map(len, parts))
      if longer - shorter > MAX_LENGTH_DIFFERENCE_SECONDS * rate_hz:
        raise InputError(
          f"{self.instrumentals[name]} lasts {len(parts[1]) / rate_hz:.2f} s, its vocals {self.vocals[name]} "
          f"{len(parts[0]) / rate_hz:.2f} s"
        )
      yield name, parts[0][:shorter] + parts[1][:shorter]


def read_clips(clips: Mapping[str, pathlib.Path], rate_hz: int) -> Iterator[tuple[str, np.ndarray]]:
  """Name and waveform, mono float `[samples]`."""
  for name, path in clips.items():
    yield name, read_mono(path, rate_hz)


def read_mono(path: pathlib.Path, rate_hz: int) -> np.ndarray:
  """float `[samples]`. Raises InputError as `read_audio`: missing, damaged, or samples that are not
  finite.
  """
  waveform, found_hz = read_audio(path)
  return resample(to_mono(waveform), found_hz, rate_hz)
