"""A whole demo song from a seed: score, voice, band, mix-down."""

import dataclasses

import numpy as np

from singsong_jax.audio.synthesis import band, theory, voice

VOCALS_PEAK, INSTRUMENTAL_PEAK = 0.5, 0.6
MIX_PEAK_LIMIT = 0.99
_END_FADE_SECONDS = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Song:
  """Two stems, whose sum is the mix, and what they play.

  Attributes:
    vocals, instrumental: float32 [samples], full scale ±1.
    annotation: JSON-able ground truth (`docs/demo_corpus.md` lists its fields).
  """

  vocals: np.ndarray
  instrumental: np.ndarray
  sample_rate_hz: int
  annotation: dict

  @property
  def mix(self) -> np.ndarray:
    """float32 [samples], at most ±0.99."""
    return self.vocals + self.instrumental


def synthesize_song(seed: int, seconds: float, sample_rate_hz: int = 44_100) -> Song:
  """Makes up a song. Equal arguments give equal samples; the score does not depend on the rate."""
  score = theory.compose(seed, seconds)
  num_samples = round(seconds * sample_rate_hz)
  fade = _end_fade(num_samples, sample_rate_hz)
  vocals = _scaled(fade * voice.sing(score.notes, num_samples, sample_rate_hz, seed), VOCALS_PEAK)
  instrumental = band.accompany(score, num_samples, sample_rate_hz, seed)
  instrumental = _scaled(fade * instrumental, INSTRUMENTAL_PEAK)
  # One gain for both stems, so that their ratio stays what it is and their sum is the mix.
  gain = np.float32(min(1.0, MIX_PEAK_LIMIT / max(1e-9, np.abs(vocals + instrumental).max())))
  return Song(
    vocals=gain * vocals,
    instrumental=gain * instrumental,
    sample_rate_hz=sample_rate_hz,
    annotation=_annotation(score, seed),
  )


def _end_fade(num_samples: int, sample_rate_hz: int) -> np.ndarray:
  """1, but for a short fall to 0 at the end. float32 [samples]"""
  left = np.arange(num_samples, 0, -1, dtype=np.float32)
  return np.minimum(1, left / (_END_FADE_SECONDS * sample_rate_hz)).astype(np.float32)


def _scaled(waveform: np.ndarray, peak: float) -> np.ndarray:
  """Scaled to that peak; silence stays silence."""
  return waveform * np.float32(peak / max(1e-9, np.abs(waveform).max()))


def _annotation(score: theory.Score, seed: int) -> dict:
  return {
    "seed": seed,
    "seconds": score.seconds,
    "key": str(theory.Chord(root=score.tonic, quality=score.mode)),
    "tempo_bpm": score.tempo_bpm,
    "style": score.style,
    "bar_phase": score.bar_phase,
    "beats_seconds": list(score.beats_seconds),
    "chords": [str(chord) for chord in score.chords],
    "notes": [dataclasses.asdict(note) for note in score.notes],
  }
