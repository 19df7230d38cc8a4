"""The singer: harmonics of a glottal source shaped by the formants of a vowel, vibrato, consonants.

Everything slow (pitch, loudness, vowel) is drawn on a grid of 5 ms control frames and interpolated, and
the phase runs through the rests, so that no note border clicks.
"""

import dataclasses

import numpy as np
import scipy.signal

from singsong_jax.audio.synthesis.theory import Note

MAX_HARMONIC_HZ = 7_600  # Keeps the voice whole in 16 kHz audio.
_MAX_HARMONICS = 40
_CONTROL_SECONDS = 0.005
_FORMANTS_HZ = np.array(  # [vowel, formant]: a e i o u
  [
    [800, 1150, 2900, 3900, 4950],
    [400, 1600, 2700, 3300, 4950],
    [350, 1700, 2700, 3700, 4950],
    [450, 800, 2830, 3500, 4950],
    [325, 700, 2530, 3500, 4950],
  ]
)
_BANDWIDTHS_HZ = np.linspace(100, 200, 5)  # [formant]
_FORMANT_PEAKS = 10 ** (-np.array([0, 4, 8, 12, 16]) / 20)
_ATTACK_SECONDS, _RELEASE_SECONDS = 0.03, 0.06
_SCOOP_SECONDS = 0.04
_VIBRATO_DELAY_SECONDS, _VIBRATO_RISE_SECONDS = 0.2, 0.2
_CONSONANT_BAND_HZ = (2_000, 7_000)
_CONSONANT_LEVEL, _BREATH_LEVEL = 0.25, 0.012  # RMS relative to a vowel's


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Phrasing:
  """How each note is sung. Every field has shape [notes]."""

  vowel: np.ndarray
  loudness: np.ndarray
  vibrato_hz: np.ndarray
  vibrato_cents: np.ndarray
  scoop_cents: np.ndarray
  consonant_seconds: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Control:
  """The slow curves. Every field has shape [frames]; frame i is at sample i · hop."""

  f0_hz: np.ndarray
  vowel: np.ndarray
  loudness: np.ndarray
  noise: np.ndarray


def sing(notes: tuple[Note, ...], num_samples: int, sample_rate_hz: int, seed: int) -> np.ndarray:
  """Sings the notes: float32 [num_samples], at an arbitrary level; silence if there are no notes."""
  if not notes:
    return np.zeros(num_samples, np.float32)
  rng = np.random.default_rng([seed, 1])
  hop = round(_CONTROL_SECONDS * sample_rate_hz)
  num_frames = -(-num_samples // hop) + 1
  control = _control(notes, _phrasing(rng, len(notes)), np.arange(num_frames) * hop / sample_rate_hz)
  # [frames] → [samples]
  voiced = _harmonics(control, hop, sample_rate_hz)
  return (voiced + _noise(rng, control.noise, hop, sample_rate_hz))[:num_samples]


def _phrasing(rng: np.random.Generator, num_notes: int) -> _Phrasing:
  return _Phrasing(
    vowel=rng.integers(len(_FORMANTS_HZ), size=num_notes),
    loudness=rng.uniform(0.7, 1.0, num_notes),
    vibrato_hz=rng.uniform(5.0, 6.2, num_notes),
    vibrato_cents=rng.uniform(20, 50, num_notes),
    scoop_cents=rng.uniform(0, 80, num_notes),
    consonant_seconds=rng.uniform(0.02, 0.06, num_notes),
  )


def _control(notes: tuple[Note, ...], phrasing: _Phrasing, times: np.ndarray) -> _Control:
  starts = np.array([note.start_seconds for note in notes])
  ends = starts + [note.duration_seconds for note in notes]
  sung = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)  # [frames]: the note of a frame
  age, left = times - starts[sung], ends[sung] - times  # [frames], seconds since the start, until the end
  consonant = phrasing.consonant_seconds[sung]
  vowel_age = age - consonant / 2  # The vowel grows out of the consonant's second half.
  loudness = _smooth_step(vowel_age / _ATTACK_SECONDS) * _smooth_step(left / _RELEASE_SECONDS)
  loudness *= _swell(age, ends[sung] - starts[sung])
  hiss = np.sin(np.pi * np.clip(age / consonant, 0, 1)) ** 2 * (left > 0)
  midi = np.array([note.midi for note in notes])[sung] + _bend_cents(phrasing, sung, age) / 100
  return _Control(
    f0_hz=440 * 2 ** ((midi - 69) / 12),
    vowel=phrasing.vowel[sung],
    loudness=loudness * phrasing.loudness[sung],
    noise=_CONSONANT_LEVEL * hiss + _BREATH_LEVEL * loudness,
  )


def _swell(age: np.ndarray, duration: np.ndarray) -> np.ndarray:
  """A held note grows towards its middle and sinks again, by 4 dB. [frames]"""
  return 0.63 + 0.37 * np.sin(np.pi * np.clip(age / duration, 0, 1))


def _bend_cents(phrasing: _Phrasing, sung: np.ndarray, age: np.ndarray) -> np.ndarray:
  """A scoop up into the note, and a vibrato that sets in late. [frames]"""
  scoop = -phrasing.scoop_cents[sung] * np.exp(-np.maximum(age, 0) / _SCOOP_SECONDS)
  since = age - _VIBRATO_DELAY_SECONDS
  depth = phrasing.vibrato_cents[sung] * _smooth_step(since / _VIBRATO_RISE_SECONDS)
  return scoop + depth * np.sin(2 * np.pi * phrasing.vibrato_hz[sung] * since)


def _smooth_step(x: np.ndarray) -> np.ndarray:
  """0 below 0, 1 above 1, without corners between."""
  x = np.clip(x, 0, 1)
  return x * x * (3 - 2 * x)


def _harmonics(control: _Control, hop: int, sample_rate_hz: int) -> np.ndarray:
  """Sum of the harmonics: [frames] curves → float32 [(frames − 1) · hop] samples of RMS ≈ loudness."""
  gains = _harmonic_gains(control)  # [harmonics, frames]
  f0_hz = _interpolate(control.f0_hz, hop)  # [samples]
  phase = np.mod(np.cumsum(2 * np.pi / sample_rate_hz * f0_hz), 2 * np.pi).astype(np.float32)
  voiced = np.zeros(len(phase), np.float32)
  for index, gain in enumerate(gains.astype(np.float32)):
    voiced += _interpolate(gain, hop) * np.sin(np.float32(index + 1) * phase)
  return voiced


def _harmonic_gains(control: _Control) -> np.ndarray:
  """Source times formants, [harmonics, frames], scaled so that every vowel is as loud as another."""
  num_harmonics = min(_MAX_HARMONICS, int(MAX_HARMONIC_HZ / control.f0_hz.min()))
  hz = np.arange(1, num_harmonics + 1)[:, None] * control.f0_hz  # [harmonics, frames]
  source = np.where(hz < MAX_HARMONIC_HZ, 1 / (1 + hz / 300), 0)
  gains = source * _formant_gain(hz, _FORMANTS_HZ[control.vowel])
  rms = np.sqrt(np.sum(np.square(gains), axis=0) / 2)  # [frames]
  return gains * (control.loudness / rms)


def _formant_gain(hz: np.ndarray, formants_hz: np.ndarray) -> np.ndarray:
  """Magnitude at `hz` [harmonics, frames] of two-pole resonators side by side; formants [frames, 5].

  In series they would leave nothing above the last one, where a real voice still has its higher formants.
  """
  gain = np.zeros_like(hz)
  for formant_hz, bandwidth_hz, peak in zip(formants_hz.T, _BANDWIDTHS_HZ, _FORMANT_PEAKS):
    resonance = formant_hz * bandwidth_hz / np.hypot(formant_hz**2 - hz**2, bandwidth_hz * hz)  # peak ≈ 1
    gain += peak * resonance
  return gain


def _noise(rng: np.random.Generator, level: np.ndarray, hop: int, sample_rate_hz: int) -> np.ndarray:
  """Consonants and breath: band-passed noise of RMS `level` [frames] → float32 [samples]."""
  low_hz, high_hz = _CONSONANT_BAND_HZ
  band_hz = (low_hz, min(high_hz, 0.45 * sample_rate_hz))
  filters = scipy.signal.butter(2, band_hz, "bandpass", fs=sample_rate_hz, output="sos")
  noise = rng.standard_normal((len(level) - 1) * hop, dtype=np.float32)
  noise = scipy.signal.sosfilt(filters, noise)
  return (noise / noise.std() * _interpolate(level, hop)).astype(np.float32)


def _interpolate(curve: np.ndarray, hop: int) -> np.ndarray:
  """Straight lines between control frames: [frames] → [(frames − 1) · hop], in the curve's own type."""
  ramp = (np.arange(hop) / hop).astype(curve.dtype)
  return (curve[:-1, None] + np.diff(curve)[:, None] * ramp).reshape(-1)
