import sys
import types

import numpy as np
import pytest

from singsong_jax.audio.io import write_wav
from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.errors import InputError
from singsong_jax.evaluation import musical, retrieval
from singsong_jax.evaluation.musical import RATE_HZ, TRIADS, Truth
from singsong_jax.evaluation.retrieval import Library, Librosa, Query, fold_ratio
from singsong_jax.evaluation.songs import find_songs


@pytest.mark.parametrize(
  "wanted, found, ratio",
  [
    (60, 250, 0.96),
    (250, 60, 250 / 60 / 4),
    (120, 120, 1),
    (120, 60, 2),
    (60, 120, 0.5),
    (0, 120, 1),
    (120, 0, 1),
  ],
)
def test_tempi_are_folded_into_an_octave_either_way(wanted, found, ratio):
  assert fold_ratio(wanted, found) == pytest.approx(ratio)


@pytest.mark.parametrize("tempo", [-1.0, float("nan"), float("inf")])
def test_impossible_tempi_are_errors(tempo):
  with pytest.raises(InputError, match="not possible"):
    fold_ratio(tempo, 120)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  write_corpus(folder, CorpusSettings(num_songs=6, song_seconds=10, seed=3), num_processes=1)
  return find_songs(folder)


def test_a_corpus_is_found_with_its_truth(corpus):
  assert [song.name for song in corpus] == [f"song_{i:05}" for i in range(6)]
  assert all(len(song.truth().chords) > 10 for song in corpus)
  assert len(corpus[0].read_instrumental()) == 10 * RATE_HZ


def test_the_oracle_finds_the_same_key_and_stretches_to_the_tempo(corpus):
  library = Library(corpus, Librosa(), seconds=4)
  for song in corpus[:3]:
    truth = song.truth()
    found = library.retrieve(Query.oracle(truth, 4.0), np.random.default_rng(0), oracle=True)
    entry = next(other.truth() for other in corpus if other.name == found.name)
    assert entry.key == truth.key
    assert found.ratio == pytest.approx(fold_ratio(truth.tempo_bpm, entry.tempo_bpm))
    assert len(found.waveform) == 4 * RATE_HZ


def test_a_mixture_is_nearest_to_itself(corpus):
  library = Library(corpus, Librosa(), seconds=4)
  for song in corpus:
    vocals, rate_hz = song.read_vocals()
    mix = retrieval.resample(vocals, rate_hz, RATE_HZ) + song.read_instrumental()
    query = Query(key=musical.key_probabilities(mix), tempo_bpm=0, seconds=4)
    found = library.retrieve(query, np.random.default_rng(0))
    assert (found.name, found.ratio) == (song.name, 1)


def test_random_draws_from_all_tracks_and_repeats_by_its_seed(corpus):
  library = Library(corpus, Librosa(), seconds=4)
  draws = [library.random(4, np.random.default_rng(seed)) for seed in range(40)]
  assert {draw.name for draw in draws} == {song.name for song in corpus}
  again = library.random(4, np.random.default_rng(5))
  assert np.array_equal(again.waveform, draws[5].waveform)


def test_short_tracks_are_left_out_and_an_empty_library_is_an_error(corpus):
  with pytest.raises(InputError, match=r"tracks of 20\.02 s; all are shorter"):
    Library(corpus, Librosa(), seconds=10.01)


def test_a_library_takes_stems_of_any_rate_that_differ_a_little_in_length(tmp_path, corpus):
  instrumental = corpus[0].read_instrumental()
  for name, rate_hz in (("low", 8_000), ("high", 44_100)):
    folder = tmp_path / name
    folder.mkdir()
    sound = retrieval.resample(instrumental, RATE_HZ, rate_hz)
    write_wav(folder / "instrumental.wav", sound, rate_hz)
    write_wav(folder / "vocals.wav", sound[: -rate_hz // 10], rate_hz)
  library = Library(find_songs(tmp_path), Librosa(), seconds=4)
  assert len(library.random(4, np.random.default_rng(0)).waveform) == 4 * RATE_HZ


def test_random_takes_any_moment_as_likely_and_short_tracks_too(tmp_path, corpus):
  """Of 9 + 3 s a quarter is the shorter track's, which is too short to be retrieved."""
  instrumental = corpus[0].read_instrumental()
  for name, seconds in (("long", 9), ("short", 3)):
    (tmp_path / name).mkdir()
    for stem in ("vocals", "instrumental"):
      write_wav(tmp_path / name / f"{stem}.wav", instrumental[: seconds * RATE_HZ], RATE_HZ)
  library = Library(find_songs(tmp_path), Librosa(), seconds=2)
  names = [library.random(2, np.random.default_rng(seed)).name for seed in range(200)]
  assert 30 < names.count("short") < 70
  assert (
    library.retrieve(Query(key=np.ones(24) / 24, tempo_bpm=0, seconds=2), np.random.default_rng(0)).name
    == "long"
  )


def test_a_missing_stem_is_named(tmp_path):
  folder = tmp_path / "one"
  folder.mkdir()
  write_wav(folder / "vocals.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
  with pytest.raises(InputError, match="one has vocals alone"):
    find_songs(tmp_path)


def test_a_damaged_annotation_is_named(tmp_path, corpus):
  broken = tmp_path / "song.json"
  broken.write_text('{"beats_seconds": [1]}', encoding="utf-8")
  song = retrieval.Song(
    name="x", vocals=corpus[0].vocals, instrumental=corpus[0].instrumental, annotation=broken
  )
  with pytest.raises(InputError, match=r"song\.json"):
    song.truth()


def test_songs_without_annotations_are_judged_by_what_is_heard(corpus):
  song = retrieval.Song(name="x", vocals=corpus[0].vocals, instrumental=corpus[0].instrumental)
  assert isinstance(song.truth(), Truth)


def test_madmoms_keys_are_put_in_our_order(monkeypatch):
  """Its CNN's 24 outputs begin with A major and A minor; the package itself does not build here."""
  probabilities = np.zeros(24)
  probabilities[3] = 0.75  # C major
  probabilities[12 + 2] = 0.25  # B minor

  def module(name: str, **names):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**names))

  for package in ("madmom", "madmom.audio", "madmom.features"):
    monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
  module("madmom.audio.signal", Signal=lambda waveform, sample_rate, num_channels: (waveform, sample_rate))
  module("madmom.features.beats", RNNBeatProcessor=lambda: lambda signal: signal)
  module("madmom.features.key", CNNKeyRecognitionProcessor=lambda: lambda signal: probabilities[None])
  module("madmom.features.tempo", TempoEstimationProcessor=lambda fps: lambda _: np.array([[97.0, 0.9]]))
  ears = retrieval.Madmom()
  waveform = np.zeros(RATE_HZ, np.float32)
  found = ears.key_probabilities(waveform)
  assert (found[TRIADS.index("C:maj")], found[TRIADS.index("B:min")]) == (0.75, 0.25)
  assert ears.tempo_bpm(waveform) == 97


def test_madmom_that_is_missing_is_an_input_error():
  with pytest.raises(InputError, match="madmom is not installed"):
    retrieval.Madmom()
