import math

import numpy as np
import pytest

from singsong_jax.audio.downmix import downmix
from singsong_jax.errors import InputError

HALF, ROOT = 0.5, math.sqrt(0.5)


@pytest.mark.parametrize(
  ("gains"),
  [
    [1],
    [HALF, HALF],
    [HALF, HALF, ROOT],
    [HALF, HALF, ROOT / 2, ROOT / 2],
    [HALF, HALF, ROOT, ROOT / 2, ROOT / 2],
    [HALF, HALF, ROOT, 0, ROOT / 2, ROOT / 2],
    [HALF, HALF, ROOT, 0, ROOT / 2, ROOT / 2, ROOT / 2, ROOT / 2],
  ],
)
def test_each_channel_is_worth_its_gain(gains):
  """One channel at a time is 1, the others silent."""
  alone = np.eye(len(gains), dtype=np.float32)  # [channels, samples]: at sample i only channel i sounds
  mono = downmix(alone)
  assert mono.dtype == np.float32
  np.testing.assert_allclose(mono, gains, atol=1e-7)


@pytest.mark.parametrize("channels", [7, 9, 24])
def test_channels_nobody_knows(channels):
  with pytest.raises(InputError, match=f"{channels} channels; 1, 2, 3, 4, 5, 6, 8 are known"):
    downmix(np.zeros((channels, 3), np.float32))
