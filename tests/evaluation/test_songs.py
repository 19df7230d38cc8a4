"""Songs of a folder, and clips of songs."""

import json

import numpy as np
import pytest

from singsong_jax.audio.io import write_wav
from singsong_jax.evaluation.songs import digest, find_songs, some


@pytest.fixture
def export(tmp_path):
  """Two songs of three clips and one of one, as `data_pipelines.export_songs` writes them."""
  for song, clips in (("a", 3), ("b", 3), ("c", 1)):
    for number in range(clips):
      folder = tmp_path / song / f"{number:03d}"
      folder.mkdir(parents=True)
      for stem in ("vocals", "instrumental"):
        write_wav(folder / f"{stem}.wav", np.full(100, 0.1 * (number + 1), np.float32), 16_000)
  (tmp_path / "export.json").write_text(json.dumps({"filter": {"min_vocal_db": -25}, "counts": {}}))
  return tmp_path


def test_clips_know_their_song_and_songs_are_their_own(export):
  assert [song.track for song in find_songs(export)] == ["a"] * 3 + ["b"] * 3 + ["c"]
  (export / "export.json").write_text(json.dumps({"filter": None, "counts": {}}))  # whole songs
  assert [song.track for song in find_songs(export)] == [song.name for song in find_songs(export)]


def test_some_are_of_as_many_songs_as_there_are(export):
  songs = find_songs(export)
  names = [[song.name for song in some(songs, number)] for number in (2, 5, None)]
  assert names[0] == ["a/000", "b/000"]
  assert names[1] == ["a/000", "a/001", "b/000", "b/001", "c/000"]
  assert names[2] == [song.name for song in songs]


def test_a_digest_tells_songs_of_the_same_names_apart(export):
  before = digest(find_songs(export))
  assert before == digest(find_songs(export)) != digest(find_songs(export)[1:])
  write_wav(export / "a" / "001" / "vocals.wav", np.full(100, 0.21, np.float32), 16_000)
  assert digest(find_songs(export)) != before
