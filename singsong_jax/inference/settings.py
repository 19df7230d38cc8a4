"""What can be asked of an accompaniment."""

import dataclasses

from singsong_jax.audio.loudness import SILENCE_LUFS
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.systems import fine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Everything but the vocals and the model.

  Attributes:
    seed: of the noise and of the sampling; the same seed gives the same samples.
    samples: accompaniments of the same vocals. Each is the one it would be among any other number.
    options: of semantic and coarse codes.
    fine_options: of fine codes.
    overlap_seconds: how much of its window each window repeats; None is half (§6).
    loudness_lufs: what the instrumental is brought to; None leaves it as the model made it.

  Raises:
    InputError: a value out of range.
  """

  seed: int = 0
  samples: int = 1
  options: SamplingOptions = SamplingOptions()
  fine_options: SamplingOptions = fine.SAMPLING
  overlap_seconds: float | None = None
  loudness_lufs: float | None = None

  def __post_init__(self):
    object.__setattr__(self, "seed", int(self.seed))  # NumPy's are not JSON
    if self.samples < 1:
      raise InputError(f"samples must be at least 1, got {self.samples}")
    if not 0 <= self.seed < 2**32:
      raise InputError(f"seed must be in 0 … {2**32 - 1}, got {self.seed}")
    if self.loudness_lufs is not None and not SILENCE_LUFS < self.loudness_lufs <= 0:
      raise InputError(
        f"loudness must be above {SILENCE_LUFS:g} and at most 0 LUFS, got {self.loudness_lufs:g}; "
        "-16 is usual for streaming"
      )
