"""Changing the sample rate, of a whole waveform or block by block."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.signal

_HALF_TAPS = 10  # of SciPy's filter, in samples of the lower rate


def resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
  """Polyphase resampling with a Kaiser window: [..., n] → [..., ceil(n · to_hz / from_hz)].

  It is linear and the same for every signal, so stems that sum to a mix still do afterwards.
  """
  divisor = math.gcd(from_hz, to_hz)
  return scipy.signal.resample_poly(
    waveform, to_hz // divisor, from_hz // divisor, axis=-1, window=("kaiser", 5.0)
  )


def resample_blocks(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
  """`resample` for a waveform that does not fit into memory.

  Args:
    blocks: float [..., n], of any lengths, together the waveform.

  Yields:
    Float [..., m], together the resampled waveform.
  """
  divisor = math.gcd(from_hz, to_hz)
  up, down = to_hz // divisor, from_hz // divisor
  # Blocks are cut at multiples of `down`, where an output sample falls on an input sample; each is
  # resampled with as many neighbours on both sides as the filter reaches.
  margin = down * math.ceil(_HALF_TAPS * max(up, down) / up / down)
  buffer, done = None, 0  # `done` input samples of the buffer have been resampled
  for block in blocks:
    buffer = block if buffer is None else np.concatenate([buffer, block], axis=-1)
    stop = (buffer.shape[-1] - margin) // down * down
    if stop > done:
      resampled = resample(buffer[..., : stop + margin], from_hz, to_hz)
      yield resampled[..., done * up // down : stop * up // down]
      start = max(0, stop - margin)
      buffer, done = buffer[..., start:], stop - start
  if buffer is not None:
    yield resample(buffer, from_hz, to_hz)[..., done * up // down :]
