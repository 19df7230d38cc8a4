"""The sketch says what the codes say: pitch classes, loudness, onsets; pieces fit together."""

import numpy as np
import pytest

from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.errors import InputError
from singsong_jax.evaluation.musical import Truth, measure
from singsong_jax.semantics import logmel
from singsong_jax.semantics.sketch import sketch

SETTINGS = logmel.LogMelSettings()
RATE_HZ = SETTINGS.sample_rate_hz
FILTERS = logmel.make_filters(SETTINGS)


def sketched(waveform):
  """The sketch of a waveform's own features, which no code has made coarser."""
  features = logmel.extract_features(waveform, SETTINGS, *FILTERS)
  log_mel, shares = np.split(features, [SETTINGS.num_mels], axis=1)
  return sketch(log_mel, shares, FILTERS[0], SETTINGS.floor, RATE_HZ, SETTINGS.hop_samples)


def tones(hz, amplitude, seconds=2):
  return (amplitude * np.sin(2 * np.pi * hz * np.arange(seconds * RATE_HZ) / RATE_HZ)).astype(np.float32)


@pytest.mark.parametrize(("midi", "amplitude"), [(69, 0.5), (64, 0.1), (81, 0.3)])
def test_a_tone_keeps_its_pitch_class(midi, amplitude):
  tone = tones(440 * 2 ** ((midi - 69) / 12), amplitude)
  heard = sketched(tone)
  assert heard.shape == tone.shape and heard.dtype == np.float32
  inner = slice(RATE_HZ // 2, -RATE_HZ // 2)
  chroma = logmel.extract_features(heard[inner], SETTINGS, *FILTERS)[5:-5, -12:].mean(axis=0)
  assert chroma.argmax() == midi % 12
  ratio_db = 20 * np.log10(np.std(heard[inner]) / np.std(tone[inner]))
  assert -3 < ratio_db < 10  # a lone tone is louder: its band is taken for as full as one of music


def test_silence_stays_silent_to_the_floor():
  assert np.abs(sketched(np.zeros(RATE_HZ, np.float32))).max() < 1e-6


def test_an_onset_is_where_it_was():
  tone = tones(440, 0.5)
  tone[:RATE_HZ] = 0
  energy = np.square(sketched(tone)).reshape(-1, RATE_HZ // 100).mean(axis=1)  # of every 10 ms
  assert abs(np.flatnonzero(energy > 0.25 * energy[150])[0] - 100) <= 4


@pytest.mark.slow
def test_true_codes_of_songs_keep_chords_and_beats():
  songs = [synthesize_song(600_000 + i, 10.0, RATE_HZ) for i in range(18)]
  encoder = logmel.fit_logmel_encoder([song.instrumental for song in songs[6:]], num_codes=512)
  found = [
    measure(
      encoder.decode(encoder.encode(song.instrumental)[:, None]), Truth.from_annotation(song.annotation)
    )
    for song in songs[:6]
  ]
  for metric, least in (("chord_24", 0.7), ("beat_f", 0.7)):
    assert np.mean([scores[metric] for scores in found]) > least, metric


@pytest.fixture(scope="module")
def encoder():
  return logmel.fit_logmel_encoder([tones(hz, 0.3) for hz in (220, 277, 330, 440, 550)], num_codes=16)


def test_pieces_with_context_make_the_whole(encoder):
  codes = np.random.default_rng(0).integers(0, 16, (40, 1))
  whole, hop, context = encoder.decode(codes), SETTINGS.hop_samples, encoder.context_frames
  for start, stop in ((0, 13), (13, 30), (30, 40)):
    first = max(0, start - context)
    piece = encoder.decode(codes[first : stop + context], first_frame=first)
    np.testing.assert_array_equal(
      piece[(start - first) * hop : (stop - first) * hop], whole[start * hop : stop * hop]
    )


def test_several_streams_at_once(encoder):
  codes = np.random.default_rng(1).integers(0, 16, (2, 3, 10, 1))
  both = encoder.decode(codes)
  assert both.shape == (2, 3, 10 * SETTINGS.hop_samples)
  np.testing.assert_array_equal(both[1, 2], encoder.decode(codes[1, 2]))


@pytest.mark.parametrize("codes", [[[16]], [[-1]], [[0, 0]]])
def test_other_codes_are_refused(encoder, codes):
  with pytest.raises(InputError, match=r"\[frames, 1\] of 0 … 15"):
    encoder.decode(np.array(codes))
