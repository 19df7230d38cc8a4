"""Log-mel encoder: exact geometry, features with meaning, files, bad input."""

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.semantics import base, logmel

SETTINGS = logmel.LogMelSettings()
RATE_HZ = SETTINGS.sample_rate_hz
FILTERS = logmel.make_filters(SETTINGS)


def sine(hz, amplitude=0.5, samples=RATE_HZ):
  return (amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / RATE_HZ)).astype(np.float32)


def notes(seed, seconds=4):
  rng = np.random.default_rng(seed)
  midis = rng.integers(48, 72, size=4 * seconds)
  tones = [sine(440 * 2 ** ((midi - 69) / 12), 0.3, RATE_HZ // 4) for midi in midis]
  return (np.concatenate(tones) + 0.01 * rng.normal(size=seconds * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
  return logmel.fit_logmel_encoder([notes(seed) for seed in range(6)], seed=1, num_codes=64)


@pytest.mark.parametrize(
  ("samples", "frames"), [(160_000, 250), (159_999, 250), (159_361, 250), (159_360, 249), (1, 1), (0, 0)]
)
def test_frames_are_exact(encoder, samples, frames):
  codes = encoder.encode(np.zeros(samples, np.float32))
  assert codes.shape == (frames,)
  assert codes.dtype == np.int32
  assert encoder.frame_rate_hz == 25


def test_codes_are_in_range_and_used(encoder):
  codes = encoder.encode(notes(9))
  assert 0 <= codes.min() <= codes.max() < encoder.num_codes == 64
  assert len(np.unique(codes)) > 10


def test_batches_equal_single_clips(encoder):
  clips = np.stack([notes(20), notes(21)])[:, None]
  np.testing.assert_array_equal(encoder.encode(clips)[1, 0], encoder.encode(clips[1, 0]))


def test_frame_i_is_centred_on_its_640_samples():
  click = np.zeros(6400, np.float32)
  click[3 * 640 + 320] = 1
  spectra = logmel.magnitudes(click, SETTINGS.mel_window_samples, SETTINGS.hop_samples)
  energy = np.square(spectra).sum(axis=-1)
  assert energy.argmax() == 3
  np.testing.assert_allclose(energy[2], energy[4], rtol=0.02, atol=1e-12)


def test_full_scale_sine_peaks_at_one_half():
  spectra = logmel.magnitudes(sine(1000.0, 1.0), 1280, 640)
  np.testing.assert_allclose(spectra[5].max(), 0.5, rtol=1e-3)
  assert spectra[5].argmax() == 80  # bins of 12.5 Hz


@pytest.mark.parametrize(("midi", "pitch_class"), [(60, 0), (64, 4), (69, 9), (45, 9), (83, 11)])
def test_chroma_names_the_pitch_class(midi, pitch_class):
  features = logmel.extract_features(sine(440 * 2 ** ((midi - 69) / 12)), SETTINGS, *FILTERS)
  chroma = features[10, SETTINGS.num_mels :]
  assert chroma.argmax() == pitch_class
  np.testing.assert_allclose(chroma.sum(), 1, atol=0.02)


def test_silence_has_no_chroma_and_the_floor_as_log_mel():
  features = logmel.extract_features(np.zeros(1280, np.float32), SETTINGS, *FILTERS)
  np.testing.assert_allclose(features[:, : SETTINGS.num_mels], np.log(SETTINGS.floor), rtol=1e-5)
  np.testing.assert_array_equal(features[:, SETTINGS.num_mels :], 0)


def test_normalisation_is_per_dimension_over_the_corpus(encoder):
  clips = [notes(seed) for seed in range(6)]
  features = np.concatenate([logmel.extract_features(clip, SETTINGS, *FILTERS) for clip in clips])
  normalised = (features - encoder.mean) * encoder.scale
  np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-3)
  expected = np.repeat([1, SETTINGS.chroma_weight], [SETTINGS.num_mels, 12])
  np.testing.assert_allclose(normalised.std(axis=0), expected, rtol=1e-3)


def test_save_and_load(encoder, tmp_path):
  path = tmp_path / "semantics.npz"
  encoder.save(path)
  loaded = base.load_semantic_encoder(path)
  assert loaded.fingerprint() == encoder.fingerprint()
  assert (loaded.name, loaded.settings, loaded.source) == ("logmel", encoder.settings, encoder.source)
  np.testing.assert_array_equal(loaded.encode(notes(3)), encoder.encode(notes(3)))


@pytest.mark.parametrize("name", ["mean", "centroids", "chroma_filters"])
def test_file_whose_arrays_do_not_fit_is_rejected(encoder, tmp_path, name):
  path = tmp_path / "semantics.npz"
  encoder.save(path)
  with np.load(path) as archive:
    arrays = dict(archive)
  arrays[name] = arrays[name][..., :-1]
  np.savez(path, **arrays)
  with pytest.raises(InputError, match=r"semantics.npz is a damaged 'logmel' file"):
    base.load_semantic_encoder(path)


def test_same_seed_same_encoder_other_seed_another():
  clips = [notes(0), notes(1)]
  first, again, other = (logmel.fit_logmel_encoder(clips, s, 16).fingerprint() for s in (5, 5, 6))
  assert first == again != other


def test_a_short_song_leaves_codes_unused():
  encoder = logmel.fit_logmel_encoder([notes(0, seconds=1)], num_codes=1024)
  assert encoder.num_codes == 1024
  assert encoder.encode(notes(5)).max() < 25 // 2


@pytest.mark.parametrize(
  ("clips", "message"),
  [
    ([], "0 clips"),
    ([np.zeros(6400), np.zeros(0)], "all 2 clips are silent"),
    ([np.ones(640), np.full(640, np.nan)], "clip 1 of 2 has samples that are NaN"),
  ],
)
def test_bad_clips(clips, message):
  with pytest.raises(InputError, match=message):
    logmel.fit_logmel_encoder(clips)


def test_bad_waveform(encoder):
  with pytest.raises(InputError, match="NaN or infinite"):
    encoder.encode(np.array([0.0, np.inf]))
