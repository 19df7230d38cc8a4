"""Hearing a codec: the file, the figures, the picture, and bad input by name."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from singsong_jax.audio.distances import log_mel_distance, si_sdr_db, snr_db
from singsong_jax.audio.resampling import resample
from singsong_jax.codecs.base import load_codec
from singsong_jax.errors import InputError
from singsong_jax.inference import reconstruction
from singsong_jax.inference.reconstruction import decode_in_pieces, encode_in_pieces, reconstruct


@pytest.fixture(scope="module")
def codec(tokenizers_dir):
  return load_codec(tokenizers_dir / "codec.npz")  # 12 levels of 16 codes: 2.4 kbps


@pytest.fixture
def stereo(tmp_path, voice):
  """A file of 1.2 s at 44.1 kHz whose channels differ."""
  channels = np.stack([voice(1.2, 44_100), 0.5 * voice(1.2, 44_100, pitch_hz=330)])
  soundfile.write(tmp_path / "stereo.flac", channels.T, 44_100)
  return tmp_path / "stereo.flac"


def test_file_and_figures(codec, stereo, tmp_path):
  found = reconstruct(stereo, tmp_path / "out.wav", codec)
  decoded, rate_hz = soundfile.read(tmp_path / "out.wav")
  assert (decoded.shape, rate_hz) == ((19_200,), 16_000)
  assert [row.levels for row in found.fidelity] == [1, 2, 4, 8, 12]
  assert [row.kbps for row in found.fidelity] == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.4])
  si_sdrs = [row.si_sdr_db for row in found.fidelity]
  assert si_sdrs == sorted(si_sdrs) and si_sdrs[-1] > si_sdrs[0] + 3
  original = resample(soundfile.read(stereo)[0].mean(axis=1), 44_100, 16_000)
  assert found.fidelity[-1].si_sdr_db == pytest.approx(si_sdr_db(original, decoded), abs=1e-3)
  assert found.fidelity[-1].snr_db == pytest.approx(snr_db(original, decoded), abs=1e-3)
  assert found.fidelity[-1].log_mel_l1 == pytest.approx(log_mel_distance(original, decoded, 16_000), abs=0.01)
  assert (found.frames, len(found.usage), found.gain) == (60, 12, 1)
  assert all(1 < level.used <= 16 for level in found.usage)


def test_levels_and_rate_of_the_file(codec, stereo, tmp_path):
  found = reconstruct(stereo, tmp_path / "two.wav", codec, levels=2, compare=False, keep_rate=True)
  assert [row.levels for row in found.fidelity] == [2]
  decoded, rate_hz = soundfile.read(tmp_path / "two.wav")
  original, _ = soundfile.read(stereo)
  assert (decoded.shape, rate_hz) == ((52_920,), 44_100)
  # Hardly anything of this voice is above 8 kHz, so the other rate gives nearly the same figure.
  assert si_sdr_db(original.mean(axis=1), decoded) == pytest.approx(found.fidelity[0].si_sdr_db, abs=0.2)


def test_pieces_are_as_good_as_the_whole(codec, voice, monkeypatch):
  monkeypatch.setattr(reconstruction, "PIECE_SECONDS", 1.5)
  waveform, seconds = voice(5.01), []
  codes = encode_in_pieces(codec, waveform)
  np.testing.assert_array_equal(codes, codec.encode(waveform))
  decoded = decode_in_pieces(codec, codes[:, :3], seconds.append)
  np.testing.assert_allclose(decoded, codec.decode(codes[:, :3]), atol=1e-6)
  assert seconds == pytest.approx([1.5, 1.5, 1.5, 0.52])


def test_what_would_clip_is_scaled(codec, tmp_path):
  square = np.sign(np.sin(np.arange(16_000) / 20))
  soundfile.write(tmp_path / "loud.wav", square, 16_000)
  found = reconstruct(tmp_path / "loud.wav", tmp_path / "out.wav", codec)
  decoded, _ = soundfile.read(tmp_path / "out.wav")
  assert found.gain < 1
  assert np.abs(decoded).max() == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_the_picture_has_a_row_for_the_original_and_each_number_of_levels(codec, stereo, tmp_path):
  heights = []
  for compare in (True, False):
    reconstruct(stereo, tmp_path / "out.wav", codec, picture=tmp_path / "codec.png", compare=compare)
    picture = np.asarray(Image.open(tmp_path / "codec.png"))
    assert picture.std() > 10
    heights.append(picture.shape[0])
  assert heights[0] == pytest.approx(3 * heights[1], abs=3)  # 6 rows, 2 rows


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"source": "nowhere.wav"}, "cannot read .*nowhere.wav: no such file"),
    ({"source": "text.wav"}, "text.wav is damaged, or not audio"),
    ({"source": "silent.wav"}, "silent.wav is silent"),
    ({"source": "short.wav"}, "short.wav lasts 0.10 s"),
    ({"source": "nan.wav"}, "nan.wav: 1 samples are not finite"),
    ({"max_seconds": 1.0}, "stereo.flac lasts longer than 1 s"),
    ({"target": "out.mp3"}, "cannot write .*out.mp3: its name has to end in .wav"),
    ({"source": "voice.wav", "target": "voice.wav"}, "voice.wav is the file to read"),
    ({"picture": "codec.jpg"}, "cannot write codec.jpg: its name has to end in .png"),
    ({"levels": 13}, "13 levels: mdct has 1 … 12"),
    ({"levels": 0}, "0 levels: mdct has 1 … 12"),
  ],
)
def test_bad_input_is_refused_by_name(codec, stereo, tmp_path, voice, changes, words):
  (tmp_path / "text.wav").write_text("this is not audio")
  soundfile.write(tmp_path / "voice.wav", voice(1.0), 16_000)
  soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
  soundfile.write(tmp_path / "short.wav", voice(0.1), 16_000)
  broken = np.where(np.arange(16_000) == 77, np.nan, voice(1.0))
  soundfile.write(tmp_path / "nan.wav", broken, 16_000, subtype="FLOAT")
  arguments = {"source": stereo.name, "target": "out.wav"} | changes
  source, target = (tmp_path / arguments.pop(name) for name in ("source", "target"))
  before = (tmp_path / "voice.wav").read_bytes()
  with pytest.raises(InputError, match=words):
    reconstruct(source, target, codec, **arguments)
  assert (tmp_path / "voice.wav").read_bytes() == before
  assert not (tmp_path / "out.wav").exists()


@pytest.mark.slow
def test_the_command(tokenizers_dir, stereo, tmp_path):
  def call(*arguments):
    command = [sys.executable, "-m", "singsong_jax.reconstruct", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)

  codec = f"--codec={tokenizers_dir / 'codec.npz'}"
  good = call(codec, "--levels=4", "--nocompare", stereo, tmp_path / "out.wav")
  assert good.returncode == 0, good.stderr
  assert "mdct: 16,000 Hz, 50 frames/s × 12 levels × 16 codes = 2.4 kbps" in good.stdout
  assert "1.20 s, 44,100 Hz, stereo, averaged; 60 frames" in good.stdout
  assert "out.wav: 4 levels, 16,000 Hz" in good.stdout
  assert soundfile.info(tmp_path / "out.wav").frames == 19_200
  missing = call(codec, stereo)
  assert (missing.returncode, missing.stdout) == (2, "")
  assert missing.stderr == "error: an argument is missing; --help shows how to call this command\n"
