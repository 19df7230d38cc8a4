"""The benchmark of codecs: what it counts, and that all of it runs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import codec_quality, opus, semantic_codes
from benchmarks.codec_audio import Clip

RATE_HZ = opus.RATE_HZ


@pytest.fixture(scope="module")
def melody():
  """Short notes of many pitches, float32 `[samples]`: nothing in it repeats."""
  times = np.arange(RATE_HZ // 4) / RATE_HZ
  pitches = np.random.default_rng(0).uniform(150, 700, size=8)
  notes = [np.exp(-8 * times) * sum(np.sin(2 * np.pi * h * hz * times) for h in (1, 2, 3)) for hz in pitches]
  return np.concatenate(0.1 * np.array(notes)).astype(np.float32)


def test_packets_of_an_ogg_stream_by_hand():
  page = lambda lacing: b"OggS" + bytes(22) + bytes([len(lacing), *lacing]) + bytes(sum(lacing))
  # A packet ends where a lacing value is below 255, if need be on the next page.
  assert opus.packet_bytes(page([19, 255, 1]) + page([255, 255]) + page([0, 7])) == [19, 256, 510, 7]


@pytest.mark.parametrize("delay", [-300, 0, 5])
def test_alignment_undoes_a_delay(melody, delay):
  late = np.roll(np.pad(melody, 400), delay)[400:]
  aligned = opus.aligned(late, melody)
  assert aligned.shape == melody.shape
  np.testing.assert_allclose(aligned[400:-400], melody[400:-400])


@pytest.mark.skipif(not opus.is_available(), reason="libsndfile without Opus")
def test_opus_takes_about_6_kbps_and_sounds_like_it(melody):
  decoded, kbps = opus.code(melody)
  assert decoded.shape == melody.shape
  assert 4 < kbps < 9
  found = codec_quality.fidelity([Clip(melody, RATE_HZ)], [decoded])
  assert found["si_sdr_db"] > 0
  other = codec_quality.fidelity([Clip(melody, RATE_HZ)], [melody[::-1]])
  assert found["log_mel_l1"] < other["log_mel_l1"]


def test_gates():
  report = {
    "usage": [{"share": 0.95}, {"share": 0.55}],
    "fidelity": {"mix": {1: {"log_mel_l1": 3.0}, 2: {"log_mel_l1": 2.0}}, "voice": {}},
  }
  report["fidelity"]["voice"] = {1: {"log_mel_l1": 3.0}, 2: {"log_mel_l1": 3.0}}
  assert list(codec_quality.gates(report).values()) == [True, False, True, False]


class HalvingCodec:
  """Codes are samples; it decodes them at half their level."""

  sample_rate_hz = 8_000

  def encode(self, waveform):
    return waveform[:, None]

  def decode(self, codes):
    return 0.5 * codes[:, 0]


def test_sines_are_found_where_they_are():
  found = codec_quality.sine_report(HalvingCodec(), 440.0)
  assert found == {"found_hz": [440, 440, 440], "level_error_db": [-6.0, -6.0, -6.0]}


class CountingEncoder:
  """Code = which tenth of full scale a frame's first sample is in."""

  sample_rate_hz, frame_rate_hz = 44_100, 10.0

  def encode(self, waveform):
    return np.floor(10 * waveform[::4410]).astype(np.int32)


class MadeUpSong:
  def __init__(self, levels, chords):
    self.instrumental = np.repeat(levels, 4410)
    self.annotation = {"beats_seconds": [0.0, 0.2], "chords": chords}


def test_chords_that_codes_stand_for():
  known = MadeUpSong([0.15, 0.15, 0.25, 0.15], ["C:maj", "G:maj"])  # code 1: C, C, then G; code 2: G
  test = MadeUpSong([0.15, 0.35, 0.25, 0.15], ["C:maj", "G:maj"])  # right, never seen, right, wrong
  assert semantic_codes.chord_accuracy(CountingEncoder(), [known], [test]) == 0.5


@pytest.mark.slow
def test_all_of_it(tmp_path):
  small = ["--fit_songs=1", "--test_songs=1", "--song_seconds=3", "--encoders=logmel,num_codes=32"]
  codec = "--codecs=mdct,num_levels=2,num_codes=32,max_fit_frames=500,sweep_seconds=1.0"
  files = [f"--output={tmp_path / 'q.json'}", f"--pictures={tmp_path / 'pictures'}"]
  command = [sys.executable, "-m", "benchmarks.codec_quality", *small, codec, *files]
  run = subprocess.run(command, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  report = json.loads((tmp_path / "q.json").read_text())
  (found,) = report["codecs"].values()
  assert set(found["fidelity"]) == set(report["sets"]) >= {"vocals", "instrumental", "mix"}
  assert set(found["fidelity"]["mix"]) == {"1", "2"}
  assert found["frames"] == 450 and len(found["usage"]) == 2
  assert report["encoders"]["logmel,num_codes=32"]["frames"] == 150
  assert report["machine"]["cores"] >= 1
  assert (tmp_path / "pictures/mix.png").stat().st_size > 10_000
  assert run.stdout.count("| 2 | 0.5 |") == 1  # 2 levels × 5 bits × 50 Hz
