"""Songs that must not be used are not, whatever they are called; others are."""

import json

import numpy as np
import pytest
import soundfile

from data_pipelines import exclusions, job
from data_pipelines.exclusions import Exclusions, plain_name
from data_pipelines.sources.base import Song, find_songs
from singsong_jax.audio import fingerprint
from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.errors import InputError


@pytest.mark.parametrize(
  ("name", "plain"),
  [
    ("AM Contra - Heart Peripheral.stem.mp4", "amcontraheartperipheralstemmp4"),
    ("Für Élise (Live).mp3", "fureliselive"),
    ("a_b.C", "abc"),
    ("声.wav", "声"),
  ],
)
def test_plain_names(name, plain):
  assert plain_name(name) == plain


@pytest.mark.parametrize(
  ("song", "excluded"),
  [
    ("AM Contra - Heart Peripheral.mp3", True),
    ("AM Contra/Heart Peripheral.flac", True),
    ("best of/01 am contra - heart peripheral (remaster).wav", True),
    ("AM Contra - Heart.wav", False),
    ("Zeno.wav", True),
    ("Zeno and Others.wav", False),  # a short name must be the whole one
  ],
)
def test_names(song, excluded):
  listed = Exclusions(["AM Contra - Heart Peripheral", "Zeno", "  "])
  reason = listed.name_reason(Song(id=song, path=""))
  assert (reason is not None) == excluded
  assert not excluded or "of the exclusion list" in reason


@pytest.fixture(scope="module")
def listed_song():
  return synthesize_song(seed=3, seconds=14).mix


def test_the_job_leaves_them_out(tmp_path, settings, separator, replace, listed_song):
  """One by its name, one by its sound under another name, level, rate and format; and nothing is unaccounted
  for.
  """
  (tmp_path / "listed").mkdir()
  soundfile.write(tmp_path / "listed" / "Zeno - Known Song.wav", listed_song, 44_100)
  prints = exclusions.fingerprints(find_songs(str(tmp_path / "listed")).songs)
  assert list(prints) == ["Zeno - Known Song.wav"]
  fingerprint.save(tmp_path / "list.npz", prints)
  songs = tmp_path / "songs"
  songs.mkdir()
  soundfile.write(songs / "covered up.mp3", 0.4 * listed_song[44_100:][::2], 22_050)
  soundfile.write(songs / "zeno - known song (acoustic).flac", synthesize_song(seed=4, seconds=3).mix, 44_100)
  for seed in (5, 6):
    soundfile.write(songs / f"{seed}.flac", synthesize_song(seed=seed, seconds=11).mix, 44_100)
  manifest = job.prepare(
    settings=replace(settings, exclude=str(tmp_path / "list.npz")),
    songs=str(songs),
    output_dir=str(tmp_path / "out"),
  )
  counts = manifest["counts"]["songs"]
  assert counts == {"found": 4, "used": 2, "excluded": 2, "dead_lettered": 0, "other_files": 0}
  lines = (tmp_path / "out" / "dead_letter.jsonl").read_text().splitlines()
  assert {(letter["song"], letter["stage"], letter["reason"]) for letter in map(json.loads, lines)} == {
    ("covered up.mp3", "exclude", "sounds like 'Zeno - Known Song.wav' of the exclusion list"),
    (
      "zeno - known song (acoustic).flac",
      "exclude",
      "named like 'Zeno - Known Song.wav' of the exclusion list",
    ),
  }
  assert "| … excluded by the list | 2 |" in (tmp_path / "out" / "report.md").read_text()
  assert len(manifest["job"]["exclude"]) == 64  # by content


def test_songs_of_one_name_are_listed_both(tmp_path):
  for album in ("one", "two"):
    (tmp_path / album).mkdir()
    soundfile.write(tmp_path / album / "track.wav", np.zeros(30_000), 22_050)
  assert list(exclusions.fingerprints(find_songs(str(tmp_path)).songs)) == ["track.wav", "two/track.wav"]


def test_another_list_is_another_job(tmp_path, songs, settings, separator, replace):
  (tmp_path / "list.txt").write_text("0\n")
  listed = replace(settings, exclude=str(tmp_path / "list.txt"))
  manifest = job.prepare(settings=listed, songs=str(songs), output_dir=str(tmp_path / "out"))
  assert manifest["counts"]["songs"]["excluded"] == 1  # 0.flac
  (tmp_path / "list.txt").write_text("2\n")
  with pytest.raises(InputError, match="was made with exclude="):
    job.prepare(settings=listed, songs=str(songs), output_dir=str(tmp_path / "out"))


def test_lists_that_are_none(tmp_path, songs, settings, replace):
  (tmp_path / "text.npz").write_text("no list")
  for name, message in [
    ("none.npz", r"--exclude=.*none\.npz does not exist; `python -m data_pipelines\.list_exclusions`"),
    ("text.npz", "is not a file of fingerprints"),
    ("none.txt", "cannot read"),
  ]:
    with pytest.raises(InputError, match=message):
      job.prepare(
        settings=replace(settings, exclude=f"{tmp_path}/{name}"),
        songs=str(songs),
        output_dir=str(tmp_path / "out"),
      )
  assert not (tmp_path / "out").exists()


def test_the_song_is_heard_to_the_end_either_way():
  for listed in (Exclusions(), Exclusions(["a"], {"a": np.zeros(0, np.uint32)})):
    blocks = iter([np.zeros(10_000, np.float32)] * 3)
    heard = listed.hear(blocks)
    assert next(blocks, None) is None and listed.sound_reason(heard) is None
