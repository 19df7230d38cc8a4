"""Instrumentals that an evaluation makes, kept as files: to be listened to, and not made twice."""

import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np

from singsong_jax import files
from singsong_jax.audio.io import read_audio, to_mono, write_wav
from singsong_jax.audio.noise import add_noise
from singsong_jax.audio.separation.base import Clip, SourceSeparator
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.evaluation.songs import Song
from singsong_jax.inference.accompanist import Accompanist

# Vocals, float32 [samples], their rate, a seed → instrumental, float32 [samples] at the same rate.
Accompany = Callable[[np.ndarray, int, int], np.ndarray]
# A song and a seed → its vocals, float32 [samples], and their rate in Hz.
Vocals = Callable[[Song, int], tuple[np.ndarray, int]]
_SEEDS = 100_003  # of one seed's songs; a prime, so that those of two seeds are other ones


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maker:
  """Makes and keeps `folder/instrumentals/ROW/SONG.wav`.

  Attributes:
    seed: of everything that is drawn.
  """

  folder: pathlib.Path
  seed: int = 0

  def seed_of(self, index: int) -> int:
    """That of a song: the same in every row, so that rows differ in their vocals alone."""
    return (self.seed * _SEEDS + index) % 2**32

  def path(self, row: str, song: Song) -> pathlib.Path:
    """Where a song's instrumental of a row is."""
    return self.folder / "instrumentals" / re.sub(r"[^\w.-]+", "_", row) / f"{song.name}.wav"

  def kept(self, row: str, song: Song, rate_hz: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` gives, float `[samples]` at `rate_hz`, or gave before.

    Raises:
      InputError: a file of another rate stands there; or as `make`, naming row and song.
    """
    path = self.path(row, song)
    if not path.exists():
      files.make_folder(path.parent)
      try:
        made = make()
      except InputError as error:
        raise InputError(f"{row}, {song.name}: {error}") from error
      write_wav(path, made, rate_hz)
    waveform, found_hz = read_audio(path)
    if found_hz != rate_hz:
      raise InputError(f"{path} is of {found_hz} Hz, not {rate_hz}: another run's; take another folder")
    return to_mono(waveform)


def accompany_with(accompanist: Accompanist, options: SamplingOptions | None = None) -> Accompany:
  """A model as the function that rows are made with."""
  return lambda vocals, rate_hz, seed: (
    accompanist.accompany(vocals, rate_hz, seed=seed, options=options).instrumental
  )


def isolated(song: Song, seed: int) -> tuple[np.ndarray, int]:
  """The vocals as they are."""
  return song.read_vocals()


def noised(sigma: float) -> Vocals:
  """The vocals with white noise of standard deviation `sigma`."""

  def vocals(song: Song, seed: int) -> tuple[np.ndarray, int]:
    waveform, rate_hz = song.read_vocals()
    return add_noise(waveform.astype(np.float32), sigma, (seed, 1)), rate_hz

  return vocals


def separated(separator: SourceSeparator) -> Vocals:
  """What a separator finds in the mix of the stems."""

  def vocals(song: Song, seed: int) -> tuple[np.ndarray, int]:
    (true, rate_hz), (other, other_hz) = (read_audio(path) for path in (song.vocals, song.instrumental))
    if rate_hz != other_hz:
      raise InputError(f"{song.vocals} is of {rate_hz} Hz, {song.instrumental} of {other_hz}")
    length = min(true.shape[1], other.shape[1])
    true, other = (to_mono(stem[:, :length]).astype(np.float32) for stem in (true, other))
    name = f"{song.name}.wav"  # what the demo corpus calls its mix
    clip = Clip(mix=true + other, sample_rate_hz=rate_hz, song=name, offset_seconds=0.0, vocals=true)
    return separator.separate([clip])[0], rate_hz

  return vocals
