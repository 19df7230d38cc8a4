"""The measures of a seam find one that is heard, and none where there is none."""

import pathlib

import numpy as np

from benchmarks import long_songs

RATE_HZ = 44_100
DETAILS = {"model": {"system": {"geometry": {"window_seconds": 2.0}}}, "overlap_seconds": 1.0}
DETAILS["fine_model"] = {"system": {"layout": {"chunk_seconds": 1.5}}}


def music(seconds=5):
  """Filtered noise whose level wanders: float32 `[samples]`."""
  rng = np.random.default_rng(0)
  noise = np.convolve(rng.standard_normal(seconds * RATE_HZ), np.hanning(50) / 100, mode="same")
  return (noise * (1 + 0.5 * np.sin(np.arange(len(noise)) / 3000))).astype(np.float32)


def report(waveform, monkeypatch):
  monkeypatch.setattr(long_songs, "read_audio", lambda path: (waveform[None], RATE_HZ))
  return long_songs.seam_report(pathlib.Path("x.wav"), DETAILS)


def test_a_sound_without_seams_has_none(monkeypatch):
  found = report(music(), monkeypatch)
  assert found["window_seams"] == 3  # at 2, 3 and 4 s
  assert found["chunk_seams"] == 2  # at 1.5 and 4.5 s; one at 3 s is a window's
  assert found["window_bend_percentile_median"] < 99
  assert found["window_level_change_percentile_median"] < 99


def test_clicks_and_steps_at_the_seams_stand_out(monkeypatch):
  waveform = music()
  for second in (2, 3, 4):
    waveform[second * RATE_HZ :] *= 5
    waveform[second * RATE_HZ] += 3 * np.abs(waveform).max()
  found = report(waveform, monkeypatch)
  assert found["window_bend_percentile_median"] > 99
  assert found["window_level_change_percentile_median"] > 99
  assert found["window_bend_percent_above_95th"] == found["window_level_change_percent_above_95th"] == 100


def test_percentiles_by_hand():
  values, others = np.array([2.5, 0, 9]), np.array([1.0, 4, 3, 2])
  np.testing.assert_array_equal(long_songs.percentiles(values, others), [50, 0, 100])
