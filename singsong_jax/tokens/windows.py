"""Frame rates, and the arithmetic of 10 s windows."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
  """Rates of the audio, semantic and acoustic streams, and the model's window.

  The paper's (§3.2): 16 kHz audio, 25 Hz semantic codes, 50 Hz × 12 acoustic codes, 10 s windows.

  Raises:
    ValueError: a window is not a whole number of samples or frames of every stream.
  """

  sample_rate_hz: int = 16_000
  semantic_rate_hz: float = 25.0
  acoustic_rate_hz: float = 50.0
  num_acoustic_levels: int = 12
  window_seconds: float = 10.0

  def __post_init__(self):
    for name in ("sample_rate_hz", "semantic_rate_hz", "acoustic_rate_hz"):
      whole_frames(self.window_seconds, getattr(self, name), name)

  @property
  def window_samples(self) -> int:
    return whole_frames(self.window_seconds, self.sample_rate_hz, "sample_rate_hz")

  @property
  def semantic_frames(self) -> int:
    """Semantic codes in a window: 250."""
    return whole_frames(self.window_seconds, self.semantic_rate_hz, "semantic_rate_hz")

  @property
  def acoustic_frames(self) -> int:
    """Acoustic frames in a window: 500."""
    return whole_frames(self.window_seconds, self.acoustic_rate_hz, "acoustic_rate_hz")


def whole_frames(seconds: float, rate_hz: float, name: str) -> int:
  """`seconds · rate_hz`, which must be a whole number. `name` is for the error message."""
  frames = seconds * rate_hz
  if not math.isclose(frames, round(frames), abs_tol=1e-6) or round(frames) < 1:
    raise ValueError(f"{seconds} s at {name}={rate_hz} Hz is {frames} frames, not a whole number")
  return round(frames)


def window_starts(num_samples: int, window_samples: int, hop_samples: int) -> list[int]:
  """First samples of the windows that cover `num_samples`; the last may reach past the end.

  With `hop_samples == window_samples` windows follow one another; with half of it they overlap by
  50 % (SingSong, §6). A window is added only while there are samples no earlier one covers.
  """
  if not 0 < hop_samples <= window_samples:
    raise ValueError(f"hop {hop_samples} must be in 1 … {window_samples} (the window), in samples")
  beyond_first = max(0, num_samples - window_samples)
  return [i * hop_samples for i in range(1 + math.ceil(beyond_first / hop_samples))]


def cut_window(waveform: np.ndarray, start: int, window_samples: int) -> np.ndarray:
  """`waveform[..., start : start + window_samples]`, zero-padded on the right to full length."""
  piece = waveform[..., start : start + window_samples]
  padding = [(0, 0)] * (piece.ndim - 1) + [(0, window_samples - piece.shape[-1])]
  return np.pad(piece, padding)
