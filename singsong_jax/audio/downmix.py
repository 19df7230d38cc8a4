"""Any number of channels to one."""

import math

import numpy as np

from singsong_jax.errors import InputError

_CENTRE, _SURROUND = math.sqrt(0.5), math.sqrt(0.5)
# What the channels of a WAV file of so many are worth, by ITU-R BS.775, in the mean of left and right.
# Low-frequency effects are left out, as there.
_FRONT, _SIDE = [0.5, 0.5], [_SURROUND / 2] * 2
_GAINS = {
  1: [1.0],
  2: _FRONT,
  3: [*_FRONT, _CENTRE],
  4: [*_FRONT, *_SIDE],
  5: [*_FRONT, _CENTRE, *_SIDE],
  6: [*_FRONT, _CENTRE, 0.0, *_SIDE],
  8: [*_FRONT, _CENTRE, 0.0, *_SIDE, *_SIDE],
}
MAX_CHANNELS = max(_GAINS)


def downmix(waveform: np.ndarray) -> np.ndarray:
  """float32 [channels, samples] → float32 [samples]: the mean of left and right, of stereo or of a surround
  mix.

  A surround mix (3.0, 4.0, 5.0, 5.1, 7.1 in the order of WAV) is brought to left and right first.

  Raises:
    InputError: another number of channels, of which nothing says what they are.
  """
  channels = len(waveform)
  if channels not in _GAINS:
    raise InputError(f"{channels} channels; {', '.join(map(str, _GAINS))} are known. Mix them down first")
  if channels <= 2:
    return waveform.mean(axis=0)
  return np.einsum("c,cn->n", np.asarray(_GAINS[channels], np.float32), waveform)
