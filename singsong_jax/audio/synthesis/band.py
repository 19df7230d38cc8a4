"""The band: drums, bass, and a piano or a pad, from a score."""

import functools

import numpy as np
import scipy.signal

from singsong_jax.audio.synthesis.theory import BEATS_PER_BAR, Score

_BASS_LOWEST, _CHORD_LOWEST = 36, 55  # MIDI C2, G3: voicings are the octave above
_DAMPING_SECONDS = 0.04
_END_SECONDS = 0.01
_PAD_RELEASE_SECONDS = 0.25
_LONGEST_NOTE_SECONDS = 3.5  # A bar at the slowest tempo, 80 bpm, is 3 s.
_LEVELS = {"kick": 0.9, "snare": 0.5, "hat": 0.16, "bass": 0.5, "piano": 0.3, "pad": 0.24}
_OFFBEAT_LEVEL = 0.7


def accompany(score: Score, num_samples: int, sample_rate_hz: int, seed: int) -> np.ndarray:
  """Plays the score's beats and chords: float32 [num_samples], at an arbitrary level."""
  track = np.zeros(num_samples, np.float32)
  rng = np.random.default_rng([seed, 2])
  _play_drums(track, score, sample_rate_hz, rng)
  _play_bass(track, score, sample_rate_hz)
  if score.style == "pad":
    _play_pad(track, score, sample_rate_hz)
  else:
    _play_piano(track, score, sample_rate_hz, rng)
  return track


def _play_drums(track: np.ndarray, score: Score, sample_rate_hz: int, rng: np.random.Generator) -> None:
  """Kick on 1 and 3, snare on 2 and 4, hi-hat on every eighth."""
  for beat, seconds in enumerate(score.beats_seconds):
    name, sound = ("snare", _snare) if score.place_in_bar(beat) % 2 else ("kick", _kick)
    _add(track, sound(sample_rate_hz), seconds, sample_rate_hz, _LEVELS[name] * rng.uniform(0.85, 1))
    for offset, level in ((0, 1.0), (score.beat_seconds / 2, _OFFBEAT_LEVEL)):
      level *= _LEVELS["hat"] * rng.uniform(0.7, 1)
      _add(track, _hat(sample_rate_hz), seconds + offset, sample_rate_hz, level)


def _play_bass(track: np.ndarray, score: Score, sample_rate_hz: int) -> None:
  """The root on 1 and 3, held for two beats."""
  for beat, seconds in enumerate(score.beats_seconds):
    if score.place_in_bar(beat) % 2 == 0:
      note = _bass_note(_voiced(score.chords[beat].root, _BASS_LOWEST), sample_rate_hz)
      note = _shorten(note, 2 * score.beat_seconds, _DAMPING_SECONDS, sample_rate_hz)
      _add(track, note, seconds, sample_rate_hz, _LEVELS["bass"])


def _play_piano(track: np.ndarray, score: Score, sample_rate_hz: int, rng: np.random.Generator) -> None:
  """The triad on every quarter or eighth."""
  offsets_beats = (0, 0.5) if score.style == "piano_eighths" else (0,)
  duration_seconds = score.beat_seconds / len(offsets_beats)
  for beat, seconds in enumerate(score.beats_seconds):
    for offset in offsets_beats:
      level = _LEVELS["piano"] * rng.uniform(0.8, 1) * (_OFFBEAT_LEVEL if offset else 1)
      for pitch_class in score.chords[beat].pitch_classes:
        note = _piano_note(_voiced(pitch_class, _CHORD_LOWEST), sample_rate_hz)
        note = _shorten(note, duration_seconds, _DAMPING_SECONDS, sample_rate_hz)
        _add(track, note, seconds + offset * score.beat_seconds, sample_rate_hz, level)


def _play_pad(track: np.ndarray, score: Score, sample_rate_hz: int) -> None:
  """The triad held through the bar, its release under the next one's attack."""
  for beat, seconds in enumerate(score.beats_seconds):
    place = score.place_in_bar(beat)
    if place == 0 or beat == 0:
      duration_seconds = (BEATS_PER_BAR - place) * score.beat_seconds + _PAD_RELEASE_SECONDS
      for pitch_class in score.chords[beat].pitch_classes:
        note = _pad_note(_voiced(pitch_class, _CHORD_LOWEST), sample_rate_hz)
        note = _shorten(note, duration_seconds, _PAD_RELEASE_SECONDS, sample_rate_hz)
        _add(track, note, seconds, sample_rate_hz, _LEVELS["pad"])


def _voiced(pitch_class: int, lowest: int) -> int:
  """The MIDI pitch of that class in the octave from `lowest`."""
  return lowest + (pitch_class - lowest) % 12


def _add(track: np.ndarray, sound: np.ndarray, seconds: float, sample_rate_hz: int, level: float) -> None:
  """Adds a sound in place; what would pass the end of the track is left out."""
  start = round(seconds * sample_rate_hz)
  sound = sound[: max(0, len(track) - start)]
  track[start : start + len(sound)] += np.float32(level) * sound


def _shorten(sound: np.ndarray, seconds: float, release_seconds: float, sample_rate_hz: int) -> np.ndarray:
  """The first `seconds` of a sound, the last `release_seconds` of them fading out."""
  sound = sound[: round(seconds * sample_rate_hz)].copy()
  release = min(len(sound), round(release_seconds * sample_rate_hz))
  sound[len(sound) - release :] *= np.cos(np.linspace(0, np.pi / 2, release, dtype=np.float32)) ** 2
  return sound


# The sounds below are the same in every song, so each is made once. All are float32 [samples], peak ≈ 1.


def _times(seconds: float, sample_rate_hz: int) -> np.ndarray:
  return np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz


def _finished(sound: np.ndarray, attack_seconds: float, sample_rate_hz: int) -> np.ndarray:
  """Fades in over `attack_seconds`, fades out at the very end, peak 1, read-only (it is cached)."""
  index = np.arange(len(sound))
  attack = np.clip(index / (attack_seconds * sample_rate_hz), 0, 1)
  end = np.clip((len(sound) - index) / (_END_SECONDS * sample_rate_hz), 0, 1)
  sound = sound * np.sin(np.pi / 2 * attack) ** 2 * end
  sound = (sound / np.abs(sound).max()).astype(np.float32)
  sound.setflags(write=False)
  return sound


def _filtered_noise(
  seed: int, num_samples: int, band_hz: tuple[float, float], sample_rate_hz: int
) -> np.ndarray:
  """Band-passed noise, [num_samples]; the band is moved down where the rate cannot carry it."""
  possible_hz = np.minimum(band_hz, (0.4 * sample_rate_hz, 0.45 * sample_rate_hz))
  filters = scipy.signal.butter(2, possible_hz, "bandpass", fs=sample_rate_hz, output="sos")
  return scipy.signal.sosfilt(filters, np.random.default_rng(seed).standard_normal(num_samples))


@functools.cache
def _kick(sample_rate_hz: int) -> np.ndarray:
  """A sine that falls from 160 to 50 Hz."""
  t = _times(0.3, sample_rate_hz)
  phase = 2 * np.pi * (50 * t + 110 * 0.03 * (1 - np.exp(-t / 0.03)))
  return _finished(np.sin(phase) * np.exp(-t / 0.08), 0.001, sample_rate_hz)


@functools.cache
def _snare(sample_rate_hz: int) -> np.ndarray:
  t = _times(0.25, sample_rate_hz)
  wires = _filtered_noise(1, len(t), (1_000, 9_000), sample_rate_hz) * np.exp(-t / 0.05)
  skin = np.sin(2 * np.pi * 185 * t) * np.exp(-t / 0.03)
  return _finished(wires + 0.5 * skin, 0.001, sample_rate_hz)


@functools.cache
def _hat(sample_rate_hz: int) -> np.ndarray:
  t = _times(0.1, sample_rate_hz)
  noise = _filtered_noise(2, len(t), (6_500, 15_000), sample_rate_hz)
  return _finished(noise * np.exp(-t / 0.02), 0.001, sample_rate_hz)


@functools.cache
def _bass_note(midi: int, sample_rate_hz: int) -> np.ndarray:
  return _string(midi, sample_rate_hz, num_partials=6, rolloff=1.6, decay_seconds=1.2, attack_seconds=0.006)


@functools.cache
def _piano_note(midi: int, sample_rate_hz: int) -> np.ndarray:
  return _string(midi, sample_rate_hz, num_partials=12, rolloff=1.3, decay_seconds=0.8, attack_seconds=0.004)


def _string(
  midi: int,
  sample_rate_hz: int,
  *,
  num_partials: int,
  rolloff: float,
  decay_seconds: float,
  attack_seconds: float,
) -> np.ndarray:
  """A struck string: slightly stretched partials, the higher ones decaying faster."""
  t = _times(_LONGEST_NOTE_SECONDS, sample_rate_hz)
  f0_hz = 440 * 2 ** ((midi - 69) / 12)
  sound = np.zeros(len(t))
  for partial in range(1, num_partials + 1):
    hz = partial * f0_hz * np.sqrt(1 + 2e-4 * partial**2)
    decay = np.exp(-t * (1 + 0.35 * (partial - 1)) / decay_seconds)
    sound += partial**-rolloff * decay * np.sin(2 * np.pi * hz * t)
  return _finished(sound, attack_seconds, sample_rate_hz)


@functools.cache
def _pad_note(midi: int, sample_rate_hz: int) -> np.ndarray:
  """Two voices 6 cents apart, soft partials, slow attack."""
  t = _times(_LONGEST_NOTE_SECONDS, sample_rate_hz)
  phases = np.random.default_rng(midi).uniform(0, 2 * np.pi, (2, 8))
  sound = np.zeros(len(t))
  for voice, cents in enumerate((-3, 3)):
    f0_hz = 440 * 2 ** ((midi - 69 + cents / 100) / 12)
    for partial in range(1, 9):
      sound += partial**-1.4 * np.sin(2 * np.pi * partial * f0_hz * t + phases[voice, partial - 1])
  return _finished(sound, 0.12, sample_rate_hz)
