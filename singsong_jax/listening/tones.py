"""Are they wearing headphones? Which of three tones is the quietest? (Woods et al. 2017)

One tone has 6 dB less. Another is in opposite phase left and right: loudspeakers cancel it in the air, so
that without headphones it sounds quieter than the one that is. doi:10.3758/s13414-017-1361-2
"""

import itertools
import random

import numpy as np

RATE_HZ = 44_100
FREQUENCY_HZ = 200.0
TONE_SECONDS, RAMP_SECONDS, PAUSE_SECONDS = 1.0, 0.1, 0.5
LEVEL = 0.25  # amplitude: as loud as music, about
QUIET_DB = -6.0
PASS = 5  # of six


def three_tones(quiet: int, opposite: int) -> np.ndarray:
  """float32 `[2, samples]` at 44.1 kHz: three tones, of which number `quiet` (from 0) has 6 dB less and
  number `opposite` its right channel inverted.
  """
  time = np.arange(round(TONE_SECONDS * RATE_HZ)) / RATE_HZ
  ramp = np.minimum(1.0, np.minimum(time, TONE_SECONDS - time) / RAMP_SECONDS)
  tone = LEVEL * np.sin(np.pi / 2 * ramp) ** 2 * np.sin(2 * np.pi * FREQUENCY_HZ * time)
  pause = np.zeros((2, round(PAUSE_SECONDS * RATE_HZ)))
  parts = []
  for index in range(3):
    gain = 10 ** (QUIET_DB / 20) if index == quiet else 1.0
    parts += [pause, gain * np.stack([tone, -tone if index == opposite else tone])]
  return np.concatenate(parts[1:], axis=1).astype(np.float32)


def orders(seed: int) -> list[tuple[int, int]]:
  """(quiet, opposite) of six trials: all there are, shuffled. So every answer is right twice."""
  found = list(itertools.permutations(range(3), 2))
  random.Random(f"tones {seed}").shuffle(found)
  return found
