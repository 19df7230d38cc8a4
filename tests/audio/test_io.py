import io
import wave

import numpy as np
import pytest
import soundfile

from singsong_jax.audio.io import (
  AUDIO_SUFFIXES,
  audio_info,
  check_wav_size,
  read_audio,
  read_blocks,
  require_finite,
  to_mono,
  wav_writer,
  write_wav,
)
from singsong_jax.errors import InputError


def noise(num_samples=4_410, channels=1, seed=0):
  return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, num_samples)).astype(np.float32)


def encoded(waveform, rate_hz, **settings) -> bytes:
  buffer = io.BytesIO()
  soundfile.write(buffer, waveform.T, rate_hz, **settings)
  return buffer.getvalue()


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_099, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_is_read(tmp_path, rate_hz, channels):
  waveform = noise(channels=channels)
  write_wav(tmp_path / "x.wav", waveform, rate_hz)
  found, found_hz = read_audio(tmp_path / "x.wav")
  assert (found.dtype, found.shape, found_hz) == (np.float32, (channels, 4_410), rate_hz)
  np.testing.assert_allclose(found, waveform, atol=2**-22)  # 24 bits
  assert audio_info(tmp_path / "x.wav") == (channels, rate_hz, 4_410 / rate_hz)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3", "OGG"])
def test_the_usual_formats_are_read(tmp_path, form):
  path = tmp_path / f"x.{form.lower()}"
  sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100, dtype=np.float32)
  path.write_bytes(encoded(np.stack([sine, sine]), 44_100, format=form))
  waveform, rate_hz = read_audio(path)
  assert path.suffix in AUDIO_SUFFIXES and rate_hz == 44_100 and waveform.shape == (2, 44_100)
  assert np.sqrt(np.mean(waveform[:, 4_000:-4_000] ** 2)) == pytest.approx(0.5 / 2**0.5, rel=0.02)


def test_one_dimension_is_one_channel(tmp_path):
  write_wav(tmp_path / "x.wav", noise()[0], 16_000)
  assert read_audio(tmp_path / "x.wav")[0].shape == (1, 4_410)


FLAC = encoded(noise(44_100), 44_100, format="FLAC")
BAD_FILES = {
  "empty (0 bytes)": b"",
  "not audio": b"these are words\n" * 100,
  "no samples": encoded(noise(0), 16_000, format="WAV"),
  "sample 3 of channel 1": encoded(
    np.array([[0, 0, 0, 0], [0, 0, 0, np.nan]]), 16_000, format="WAV", subtype="FLOAT"
  ),
  "first is inf": encoded(np.array([[0, np.inf]]), 16_000, format="WAV", subtype="FLOAT"),
  "has 3 channels": encoded(noise(channels=3), 16_000, format="WAV"),
  "has 2 Hz": encoded(noise(), 2, format="WAV"),
  "damaged": FLAC[: len(FLAC) // 2],
  "or not audio": FLAC[:30],
}


@pytest.mark.parametrize("complaint", BAD_FILES)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, complaint):
  path = tmp_path / "song.wav"
  path.write_bytes(BAD_FILES[complaint])
  with pytest.raises(InputError) as caught:
    read_audio(path)
  assert str(path) in str(caught.value) and complaint in str(caught.value)


@pytest.mark.parametrize("read", [read_audio, audio_info])
def test_no_such_file(tmp_path, read):
  with pytest.raises(InputError, match=r"nowhere\.wav: no such file"):
    read(tmp_path / "nowhere.wav")
  with pytest.raises(InputError, match="not a file"):
    read(tmp_path)


def test_a_wav_cut_short_gives_what_it_has(tmp_path):
  whole = noise(1_000)
  data = encoded(whole, 16_000, format="WAV", subtype="FLOAT")
  (tmp_path / "x.wav").write_bytes(data[:-1_600])
  found, _ = read_audio(tmp_path / "x.wav")
  assert 0 < found.shape[1] < 1_000
  np.testing.assert_array_equal(found, whole[:, : found.shape[1]])


@pytest.mark.parametrize(
  "waveform, complaint",
  [([[0.0, -1.01]], r"x\.wav would clip: its peak is 1\.0100"), ([[np.nan, 0]], "not finite")],
)
def test_bad_samples_are_not_written(tmp_path, waveform, complaint):
  with pytest.raises(InputError, match=complaint):
    write_wav(tmp_path / "x.wav", np.array(waveform), 16_000)
  assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_input_error(tmp_path, monkeypatch):
  def fill(self, data):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(wave.Wave_write, "writeframesraw", fill)
  with pytest.raises(InputError, match=r"x\.wav: No space left"):
    write_wav(tmp_path / "x.wav", noise(), 16_000)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_make_the_file_libsndfile_would_write(tmp_path, bits, channels):
  waveform = noise(channels=channels)
  waveform[:, :2] = [1, -1]
  with wav_writer(tmp_path / "x.wav", 44_100, channels, bits) as write:
    for start in range(0, waveform.shape[1], 1_000):
      write(waveform[:, start : start + 1_000])
  assert (tmp_path / "x.wav").read_bytes() == encoded(waveform, 44_100, format="WAV", subtype=f"PCM_{bits}")


def test_a_writer_that_is_left_by_an_error_leaves_no_file(tmp_path):
  with pytest.raises(InputError, match="not finite"), wav_writer(tmp_path / "x.wav", 16_000, 1) as write:
    write(noise())
    write(np.full((1, 3), np.nan))
  assert not list(tmp_path.iterdir())


def test_a_file_in_blocks_is_the_file(tmp_path):
  write_wav(tmp_path / "x.wav", noise(channels=2), 16_000)
  blocks = list(read_blocks(tmp_path / "x.wav", 1_000))
  assert [block.shape for block in blocks] == [(2, 1_000)] * 4 + [(2, 410)]
  np.testing.assert_array_equal(np.concatenate(blocks, axis=1), read_audio(tmp_path / "x.wav")[0])


def test_the_place_of_a_bad_sample_in_a_block_is_that_in_the_whole():
  with pytest.raises(
    InputError, match="voice: 1 samples are not finite, the first is inf at sample 102 of channel 1"
  ):
    require_finite(np.array([[0, 0, 0], [0, 0, np.inf]]), "voice", first_sample=100)


def test_what_a_wav_file_cannot_hold_is_refused():
  check_wav_size(4 * 3600 * 48_000, 2)
  with pytest.raises(InputError, match="8,294,400,000 bytes"):
    check_wav_size(4 * 3600 * 96_000, 2)


def test_mono_is_the_mean():
  np.testing.assert_array_equal(to_mono(np.array([[1.0, 2], [3, -2]])), [2, 0])
