"""Features of `logmel.py` as sound: a sketch in tones of what its codes say, and no more than they say.

Each pitch class sounds as sinusoids in all octaves, as loud as its share of the chroma and the log-mel
spectrum around it; drums are clusters of tones. Phases depend on the place in the stream alone, so that
pieces of one fit together.
"""

import numpy as np

_TONES = np.arange(33, 119)  # MIDI A1 … A#8, 7.5 kHz
_SEMITONE = 2 ** (1 / 24) - 2 ** (-1 / 24)  # its width, as a share of its frequency
_FADE_SAMPLES = 256
_REST = 0.001  # of the floor is left, 30 dB below it: codes say nothing of it, and sudden silence is an event
_SHARPNESS = 1.5  # centroids are means, and so have flatter chroma than what they are means of
_SINE_ENERGY = 0.375  # squared magnitudes that `logmel.magnitudes` gives a full-scale sine, summed


def sketch(
  log_mel: np.ndarray,
  shares: np.ndarray,
  mel_filters: np.ndarray,
  floor: float,
  sample_rate_hz: int,
  hop_samples: int,
  first_frame: int = 0,
) -> np.ndarray:
  """Features to sound.

  Args:
    log_mel: `[frames, mels]`, natural logarithm of power, as `logmel.extract_features` gives it.
    shares: `[frames, 12]`, of the pitch classes from C.
    mel_filters: `[mels, window/2 + 1]`, on power.
    floor: that was added to power.
    first_frame: place of the first frame in a longer stream.

  Returns:
    float32 `[frames · hop]`.
  """
  hz = 440 * 2 ** ((_TONES - 69) / 12)
  hz = hz[hz < sample_rate_hz / 2]
  power = np.maximum(np.exp(log_mel) - floor, 0) + _REST * floor
  levels = _levels(power, shares, mel_filters, hz, sample_rate_hz)
  # A frame's level is there at once, so that onsets stay onsets.
  starts = np.arange(len(levels)) * hop_samples
  knots = np.stack([starts, starts + min(_FADE_SAMPLES, hop_samples)], axis=1).ravel()  # [2 · frames]
  before = np.concatenate([levels[:1], levels[:-1]])
  values = np.stack([before, levels], axis=1).reshape(-1, len(hz))
  samples = np.arange(len(levels) * hop_samples)
  seconds = (first_frame * hop_samples + samples) / sample_rate_hz
  sound = np.zeros(len(samples))
  for tone, curve in zip(hz, values.T):
    sound += np.interp(samples, knots, curve) * np.sin(2 * np.pi * np.mod(tone * seconds, 1.0) + tone)
  return sound.astype(np.float32)


def _levels(
  power: np.ndarray, shares: np.ndarray, mel_filters: np.ndarray, hz: np.ndarray, sample_rate_hz: int
) -> np.ndarray:
  """Amplitudes of the tones `hz`: `[frames, tones]`."""
  bin_hz = sample_rate_hz / 2 / (mel_filters.shape[1] - 1)
  area = mel_filters.sum(axis=1)
  centres_hz = (mel_filters @ np.arange(mel_filters.shape[1])) / area * bin_hz
  density = power / area  # mean squared magnitude of the bins around each band: [frames, mels]
  place = np.interp(hz, centres_hz, np.arange(len(centres_hz)))
  below = np.minimum(place.astype(int), len(centres_hz) - 2)
  share = place - below
  around = density[:, below] * (1 - share) + density[:, below + 1] * share  # [frames, tones]
  sharp = np.maximum(shares, 0) ** _SHARPNESS
  sharp /= np.maximum(sharp.sum(axis=1, keepdims=True), 1e-9)
  energy = around * hz * _SEMITONE / bin_hz  # of the bins of a semitone
  return np.sqrt(energy * 12 * sharp[:, _TONES[: len(hz)] % 12] / _SINE_ENERGY)
