"""What goes in: a voice that has been looked at, cut into the model's windows."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from singsong_jax.audio.io import MAX_CHANNELS, require_finite, to_mono
from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.resampling import resample_blocks
from singsong_jax.audio.tracks import Track, cut_windows
from singsong_jax.errors import InputError

MIN_SECONDS = 0.5
SILENCE_DB = -60.0


@dataclasses.dataclass(frozen=True)
class Vocals:
  """A track that can be accompanied; `check_vocals` makes it.

  Attributes:
    sha256: of rate, channels and samples.
  """

  track: Track
  channels: int
  num_samples: int
  sha256: str

  @property
  def sample_rate_hz(self) -> int:
    return self.track.sample_rate_hz

  @property
  def seconds(self) -> float:
    return self.num_samples / self.sample_rate_hz

  def samples_at(self, rate_hz: int) -> int:
    """Its length after resampling."""
    return -(-self.num_samples * rate_hz // self.sample_rate_hz)

  def windows(
    self, starts_seconds: Sequence[float], window_seconds: float, rate_hz: int
  ) -> Iterator[np.ndarray]:
    """The mono voice at `rate_hz` from each start on: float32 `[samples of a window]`, zeros past its end."""
    starts = [round(start * rate_hz) for start in starts_seconds]
    mono = (to_mono(block) for block in self.track.blocks())
    resampled = resample_blocks(mono, self.sample_rate_hz, rate_hz)
    return cut_windows(resampled, starts, round(window_seconds * rate_hz))


def check_vocals(track: Track, max_seconds: float = math.inf) -> Vocals:
  """Reads a track once, in bounded memory.

  Raises:
    InputError: too short, too long, silent, not finite, or more than two channels.
  """
  channels, num_samples, level_db = 0, 0, -math.inf
  digest = hashlib.sha256(str(track.sample_rate_hz).encode())
  for block in track.blocks():  # [channels, n]
    channels = len(block)
    if channels not in range(1, MAX_CHANNELS + 1):
      raise InputError(f"{track.name} has {channels} channels; mix them down to 1 or 2 first")
    require_finite(block, track.name, num_samples)
    level_db = max(level_db, peak_rms_db(to_mono(block), track.sample_rate_hz))
    num_samples += block.shape[-1]
    digest.update(bytes([channels]) + np.ascontiguousarray(block).tobytes())
    if num_samples > max_seconds * track.sample_rate_hz:
      raise InputError(f"{track.name} lasts longer than {max_seconds:g} s, the limit set")
  if num_samples < MIN_SECONDS * track.sample_rate_hz:
    seconds = num_samples / track.sample_rate_hz
    raise InputError(f"{track.name} lasts {seconds:.2f} s; at least {MIN_SECONDS:g} s are needed")
  if level_db < SILENCE_DB:
    raise InputError(f"{track.name} is silent: loudest 50 ms at {level_db:.1f} dB, below {SILENCE_DB:g} dB")
  return Vocals(track, channels, num_samples, digest.hexdigest())
