"""audio/ffmpeg.py, where the program is installed; and what is said where it is not."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from singsong_jax.audio import ffmpeg
from singsong_jax.errors import InputError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture
def two_streams(tmp_path):
  """A file with a sine of 440 Hz, and one of 880 Hz in stereo at another rate."""
  seconds = np.arange(44_100) / 44_100
  for hz in (440, 880):
    soundfile.write(tmp_path / f"{hz}.wav", 0.5 * np.sin(2 * np.pi * hz * seconds), 44_100)
  path = tmp_path / "a: b.stem.mp4"
  inputs = ["-i", tmp_path / "440.wav", "-i", tmp_path / "880.wav"]
  outputs = ["-map", "0", "-map", "1", "-c:a", "aac", "-ar:a:1", "48000", "-ac:a:1", "2", "-b:a", "192k"]
  subprocess.run(["ffmpeg", "-v", "error", *inputs, *outputs, f"file:{path}"], check=True)
  return path


def read(path, stream, channels, block_samples=1_000):
  return np.concatenate(list(ffmpeg.read_blocks(path, channels, block_samples, stream)), axis=1)


@needs_ffmpeg
def test_streams_are_told_apart(two_streams):
  first, second = ffmpeg.probe(two_streams, 0), ffmpeg.probe(two_streams, 1)
  assert (first.channels, first.sample_rate_hz) == (1, 44_100)
  assert (second.channels, second.sample_rate_hz) == (2, 48_000)
  assert first.seconds == pytest.approx(1, abs=0.1)
  # ffmpeg spreads one channel over two with the same power.
  for stream, channels, rate_hz, hz, peak in [(0, 1, 44_100, 440, 0.5), (1, 2, 48_000, 880, 0.354)]:
    waveform = read(two_streams, stream, channels)
    assert waveform.shape[0] == channels and waveform.dtype == np.float32
    assert waveform.shape[1] == pytest.approx(rate_hz, abs=3_000)
    middle = waveform[0, 10_000:30_000]
    loudest = np.abs(np.fft.rfft(middle * np.hanning(20_000))).argmax() * rate_hz / 20_000
    assert loudest == pytest.approx(hz, abs=5)
    assert np.abs(middle).max() == pytest.approx(peak, abs=0.04)


@needs_ffmpeg
def test_a_reader_may_leave_early(two_streams):
  blocks = ffmpeg.read_blocks(two_streams, 1, 100)
  assert next(blocks).shape == (1, 100)
  blocks.close()


@needs_ffmpeg
def test_what_is_no_audio(tmp_path, two_streams):
  (tmp_path / "text.m4a").write_text("not audio")
  for use in (ffmpeg.probe, lambda path: read(path, 0, 1)):
    with pytest.raises(InputError, match=r"text\.m4a is damaged, or not audio that ffmpeg reads"):
      use(tmp_path / "text.m4a")
  with pytest.raises(InputError, match=r"stem\.mp4 has no audio stream 2"):
    ffmpeg.probe(two_streams, 2)


def test_without_the_program(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  with pytest.raises(InputError, match=r"a\.m4a: reading \.m4a needs the program ffprobe on the PATH"):
    ffmpeg.probe("a.m4a")
