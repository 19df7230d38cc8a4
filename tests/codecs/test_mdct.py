"""MDCT codec: exact geometry, sound quality that can be counted, files, bad input."""

import json

import numpy as np
import pytest

from singsong_jax.codecs import base, mdct
from singsong_jax.errors import InputError

SMALL = mdct.MdctSettings(num_codes=256, max_fit_frames=2000)
RATE_HZ = SMALL.sample_rate_hz


def notes(seed, seconds=4):
  """Decaying harmonic notes with bursts of noise: float32 `[samples]`."""
  rng = np.random.default_rng(seed)
  times = np.arange(RATE_HZ // 2) / RATE_HZ
  pieces = []
  for midi in rng.integers(45, 70, size=2 * seconds):
    phases = 2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * times
    tone = sum(np.sin(h * phases) / h for h in range(1, 6))
    noise = rng.normal(size=len(times)) * np.exp(-30 * times)
    pieces.append(0.2 * np.exp(-3 * times) * tone + 0.1 * noise)
  return np.concatenate(pieces).astype(np.float32)


def sine(hz, amplitude, seconds=2):
  return (amplitude * np.sin(2 * np.pi * hz * np.arange(seconds * RATE_HZ) / RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def codec():
  return mdct.fit_mdct_codec([notes(seed) for seed in range(8)], seed=1, settings=SMALL)


@pytest.mark.parametrize(
  ("samples", "frames"), [(160_000, 500), (159_999, 500), (159_681, 500), (159_680, 499), (1, 1), (0, 0)]
)
def test_frames_are_exact(codec, samples, frames):
  codes = codec.encode(np.zeros(samples, np.float32))
  assert codes.shape == (frames, codec.num_levels)
  assert codes.dtype == np.int32
  decoded = codec.decode(codes)
  assert decoded.shape == (frames * 320,)
  assert decoded.dtype == np.float32


def test_default_geometry_is_the_papers():
  settings = mdct.MdctSettings()
  random = np.random.default_rng(0).normal(size=(12, 1024, 320 + settings.num_noise_bands)) / 8
  codec = mdct.MdctCodec(settings=settings, codebooks=random.astype(np.float32), source={})
  assert (codec.sample_rate_hz, codec.frame_rate_hz, codec.num_levels, codec.num_codes) == (
    16000,
    50,
    12,
    1024,
  )
  codes = codec.encode(notes(0, seconds=10))
  assert codes.shape == (500, 12)
  assert codec.decode(codes).shape == (160_000,)


def test_batches_equal_single_clips(codec):
  clips = np.stack([notes(20), notes(21)])[:, None]  # [2, 1, samples]
  codes = codec.encode(clips)
  assert codes.shape[:2] == (2, 1)
  np.testing.assert_array_equal(codes[1, 0], codec.encode(clips[1, 0]))
  np.testing.assert_allclose(codec.decode(codes)[0, 0], codec.decode(codes[0, 0]), atol=1e-6)


def test_silence_stays_silent(codec):
  codes = codec.encode(np.zeros(3200, np.float32))
  np.testing.assert_array_equal(codes, 0)
  np.testing.assert_array_equal(codec.decode(codes), 0)


def test_error_falls_with_every_level(codec):
  waveform = notes(30)
  codes = codec.encode(waveform)
  errors = [np.square(codec.decode(codes[:, :n]) - waveform).sum() for n in range(1, codec.num_levels + 1)]
  assert (np.diff(errors) < 0).all()
  assert errors[-1] < 0.35 * np.square(waveform).sum()


def check_sine(codec, hz, amplitude, tolerance_db):
  decoded = codec.decode(codec.encode(sine(hz, amplitude)))[8000:24_000]
  spectrum = np.abs(np.fft.rfft(decoded * np.hanning(len(decoded))))  # bins of 1 Hz
  assert abs(spectrum.argmax() - hz) <= 2
  level_db = 20 * np.log10(np.sqrt(2 * np.mean(decoded**2)) / amplitude)
  assert abs(level_db) < tolerance_db


@pytest.mark.parametrize("hz", [220.0, 440.0, 880.0])
@pytest.mark.parametrize("amplitude", [0.05, 0.5])
def test_sine_keeps_frequency_and_level_within_a_small_quantisers_limits(codec, hz, amplitude):
  check_sine(codec, hz, amplitude, tolerance_db=4)


@pytest.mark.slow
def test_sine_keeps_frequency_and_level_at_full_size():
  codec = mdct.fit_mdct_codec([notes(seed, seconds=10) for seed in range(16)])
  for hz in (110.0, 261.6, 440.0, 880.0):
    for amplitude in (0.05, 0.2, 0.5):
      check_sine(codec, hz, amplitude, tolerance_db=4)


def test_noise_keeps_its_level_from_two_levels_on(codec):
  hiss = np.diff(np.random.default_rng(5).normal(size=32_001)).astype(np.float32) * 0.02
  decoded = codec.decode(codec.encode(hiss)[:, :2])
  high = slice(8000, None)  # 4 … 8 kHz of 2 s
  ratio = np.sum(np.abs(np.fft.rfft(decoded)[high]) ** 2) / np.sum(np.abs(np.fft.rfft(hiss)[high]) ** 2)
  assert abs(10 * np.log10(ratio)) < 6


def test_decoding_is_repeatable(codec):
  codes = codec.encode(notes(31))
  np.testing.assert_array_equal(codec.decode(codes), codec.decode(codes))


def test_same_seed_same_codec_other_seed_another():
  clips = [notes(0), notes(1)]
  first, again, other = (mdct.fit_mdct_codec(clips, seed, SMALL).fingerprint() for seed in (5, 5, 6))
  assert first == again != other


def test_save_and_load(codec, tmp_path):
  path = tmp_path / "codec.npz"
  codec.save(path)
  loaded = base.load_codec(path)
  assert loaded.fingerprint() == codec.fingerprint()
  assert (loaded.name, loaded.settings, loaded.source) == ("mdct", SMALL, codec.source)
  np.testing.assert_array_equal(loaded.encode(notes(3)), codec.encode(notes(3)))


def test_file_of_another_shape_is_rejected(codec, tmp_path):
  path = tmp_path / "codec.npz"
  codec.save(path)
  with np.load(path) as archive:
    arrays = dict(archive)
  arrays["codebooks"] = arrays["codebooks"][:-1]
  np.savez(path, **arrays)
  with pytest.raises(InputError, match=r"codec.npz is a damaged 'mdct' file: codebooks have shape \(11, 256"):
    base.load_codec(path)


def test_file_with_unknown_setting_is_rejected(codec, tmp_path):
  path = tmp_path / "codec.npz"
  codec.save(path)
  with np.load(path) as archive:
    arrays = dict(archive)
  metadata = json.loads(arrays["metadata"].tobytes())
  metadata["settings"]["hop"] = 1
  arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
  np.savez(path, **arrays)
  with pytest.raises(InputError, match=r"damaged 'mdct' file.*hop"):
    base.load_codec(path)


def test_a_short_song_is_enough():
  codec = mdct.fit_mdct_codec([notes(0, seconds=1)], settings=SMALL)
  assert codec.codebooks.shape == (12, 256, 320 + SMALL.num_noise_bands)
  assert np.isfinite(codec.decode(codec.encode(notes(1)))).all()


@pytest.mark.parametrize(
  ("clips", "message"),
  [
    ([], "0 clips"),
    ([np.zeros(3200), np.zeros(0)], "all 2 clips are silent"),
    ([np.ones(320), np.full(320, np.nan)], "clip 1 of 2 has samples that are NaN"),
  ],
)
def test_bad_clips(clips, message):
  with pytest.raises(InputError, match=message):
    mdct.fit_mdct_codec(clips, settings=SMALL)


def test_bad_waveform_and_codes(codec):
  with pytest.raises(InputError, match="NaN or infinite"):
    codec.encode(np.array([0.0, np.inf]))
  with pytest.raises(InputError, match="13 levels; this codec decodes 1 … 12"):
    codec.decode(np.zeros((5, 13), int))
  with pytest.raises(InputError, match="span 0 … 256; this codec's are 0 … 255"):
    codec.decode(np.array([[0, 256]]))


@pytest.mark.parametrize("levels", [1, 4, 12])
def test_pieces_of_a_stream_join_to_the_whole(codec, levels):
  codes = codec.encode(notes(5))[:, :levels]  # [200, levels]
  pieces = []
  for start in range(0, len(codes), 70):
    stop = min(start + 70, len(codes))
    first, last = max(0, start - codec.context_frames), stop + codec.context_frames
    piece = codec.decode(codes[first:last], first_frame=first)
    pieces.append(piece[(start - first) * 320 : (stop - first) * 320])
  np.testing.assert_allclose(np.concatenate(pieces), codec.decode(codes), atol=1e-6)


def test_the_filled_in_noise_does_not_repeat_soon(codec):
  """Piece after piece with the same noise would buzz."""
  codes = codec.encode(notes(6, seconds=1))[:, :1]
  assert not np.allclose(codec.decode(codes), codec.decode(codes, first_frame=500), atol=1e-3)
