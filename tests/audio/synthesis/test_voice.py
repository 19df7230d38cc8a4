import numpy as np
import pytest

from singsong_jax.audio.synthesis import voice as voice_module
from singsong_jax.audio.synthesis.theory import Note
from singsong_jax.audio.synthesis.voice import sing

RATE_HZ = 44_100
NOTES = tuple(
  Note(start_seconds=0.5 + index, duration_seconds=0.8, midi=midi)
  for index, midi in enumerate((57, 64, 69, 79))
)


@pytest.fixture(scope="module")
def voice():
  return sing(NOTES, 5 * RATE_HZ, RATE_HZ, seed=4)


def spectrum(waveform):
  return np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))), np.fft.rfftfreq(
    len(waveform), 1 / RATE_HZ
  )


@pytest.mark.parametrize("note", NOTES)
def test_the_energy_of_a_note_is_at_its_harmonics(voice, note):
  start = round((note.start_seconds + 0.2) * RATE_HZ)
  magnitude, hz = spectrum(voice[start : start + RATE_HZ // 2])
  harmonic = hz / (440 * 2 ** ((note.midi - 69) / 12))
  # Vibrato goes 50 cents to either side, its own side bands a little further.
  near = (harmonic > 0.5) & (
    np.abs(12 * np.log2(np.maximum(harmonic, 0.5) / np.maximum(1, np.round(harmonic)))) < 0.9
  )
  assert np.sum(magnitude[near] ** 2) > 0.98 * np.sum(magnitude**2)
  first = np.abs(harmonic - 1) < 0.04
  assert magnitude[first].max() > 0.03 * magnitude.max()  # So it is this octave.


def test_rests_are_silent(voice):
  for note in NOTES:
    end = round((note.start_seconds + note.duration_seconds) * RATE_HZ)
    assert not voice[end + 300 : end + 8_000].any()
  assert not voice[: round(0.49 * RATE_HZ)].any()


def test_no_harmonic_is_above_the_limit(monkeypatch):
  for noise in ("_BREATH_LEVEL", "_CONSONANT_LEVEL"):
    monkeypatch.setattr(voice_module, noise, 0)
  held = (Note(start_seconds=0, duration_seconds=2, midi=79),)  # Harmonic 9 is at 7056 Hz, 10 at 7840 Hz.
  magnitude, hz = spectrum(sing(held, 2 * RATE_HZ, RATE_HZ, seed=1)[RATE_HZ // 4 :])
  highest = magnitude[np.abs(hz - 7_056) < 200].max()
  assert highest > 1e-5 * magnitude.max()
  assert magnitude[hz > 7_650].max() < 0.02 * highest


def test_nothing_clicks(voice):
  # A click is broad: it would fill the band above all voice and consonant noise (2 … 7 kHz) at once.
  frames = np.lib.stride_tricks.sliding_window_view(voice, 512)[::256] * np.hanning(512)
  high = np.abs(np.fft.rfft(frames))[:, np.fft.rfftfreq(512, 1 / RATE_HZ) > 16_000]
  assert high.max() < 2e-2 * np.abs(np.fft.rfft(frames)).max()


def test_no_notes_no_sound_and_seeds_decide():
  assert not sing((), 1_000, RATE_HZ, seed=0).any()
  one, same, other = (sing(NOTES[:1], RATE_HZ, RATE_HZ, seed=seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(one, same)
  assert (one != other).any()
  assert one.dtype == np.float32 and one.shape == (RATE_HZ,)
