import hashlib
import json
import shutil

import numpy as np
import pytest

from singsong_jax.audio.io import read_audio
from singsong_jax.audio.synthesis import CorpusSettings, corpus, write_corpus
from singsong_jax.errors import InputError

SETTINGS = CorpusSettings(num_songs=3, song_seconds=1.5, seed=7)


def digests(folder):
  paths = sorted(path for path in folder.rglob("*") if path.is_file())
  return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus") / "new"
  assert write_corpus(folder, SETTINGS, num_processes=1) == 3
  return folder


def test_layout(written):
  expected = {"corpus.json"}
  for name in ("song_00000", "song_00001", "song_00002"):
    expected |= {f"songs/{name}.wav", f"annotations/{name}.json"}
    expected |= {f"stems/{name}/vocals.wav", f"stems/{name}/instrumental.wav"}
  assert set(digests(written)) == expected


def test_stems_sum_to_the_song(written):
  mix, rate_hz = read_audio(written / "songs" / "song_00001.wav")
  stems = [read_audio(written / "stems" / "song_00001" / f"{s}.wav")[0] for s in ("vocals", "instrumental")]
  assert rate_hz == 44_100 and mix.shape == (1, 66_150)
  np.testing.assert_allclose(sum(stems), mix, atol=2 / 2**15)  # 16 bits each


def test_songs_of_other_numbers_and_seeds_differ(written, tmp_path):
  write_corpus(tmp_path, CorpusSettings(num_songs=2, song_seconds=1.5, seed=8), num_processes=1)
  found = [json.loads(path.read_text()) for path in written.glob("annotations/*.json")]
  found += [json.loads(path.read_text()) for path in tmp_path.glob("annotations/*.json")]
  assert sorted(annotation["seed"] for annotation in found) == [700_000, 700_001, 700_002, 800_000, 800_001]


@pytest.mark.slow
def test_the_number_of_processes_does_not_matter(written, tmp_path):
  write_corpus(tmp_path, SETTINGS, num_processes=2)
  assert digests(tmp_path) == digests(written)


def test_a_complete_corpus_is_left_alone(written):
  before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
  assert write_corpus(written, SETTINGS) == 0
  assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_a_killed_run_goes_on(written, tmp_path, monkeypatch):
  whole, made = corpus._write_song, []

  def stop_in_the_second(output_dir, settings, index):
    if index == 1 and not made:
      made.append("killed")
      (output_dir / "songs" / "song_00001.wav").write_bytes(b"of an older generator")
      (output_dir / "songs" / ".song_00001.1234.partial.wav").write_bytes(b"half")
      raise KeyboardInterrupt
    whole(output_dir, settings, index)

  monkeypatch.setattr(corpus, "_write_song", stop_in_the_second)
  with pytest.raises(KeyboardInterrupt):
    write_corpus(tmp_path, SETTINGS, num_processes=1)
  assert not (tmp_path / "corpus.json").exists()
  first = (tmp_path / "songs" / "song_00000.wav").stat().st_mtime_ns
  with pytest.raises(InputError, match="--fresh"):
    write_corpus(tmp_path, CorpusSettings(num_songs=3, song_seconds=2, seed=7))
  assert write_corpus(tmp_path, SETTINGS, num_processes=1) == 2
  assert (tmp_path / "songs" / "song_00000.wav").stat().st_mtime_ns == first
  assert digests(tmp_path) == digests(written)


def test_other_settings_need_fresh(tmp_path):
  write_corpus(tmp_path, CorpusSettings(num_songs=2, song_seconds=1), num_processes=1)
  smaller = CorpusSettings(num_songs=1, song_seconds=1)
  with pytest.raises(InputError, match=r"num_songs=2 \(wanted 1\); use another folder, or --fresh"):
    write_corpus(tmp_path, smaller)
  (tmp_path / "notes.txt").write_text("mine")
  assert write_corpus(tmp_path, smaller, fresh=True, num_processes=1) == 1
  assert [path.name for path in (tmp_path / "songs").iterdir()] == ["song_00000.wav"]
  assert (tmp_path / "notes.txt").exists()


def test_fresh_that_is_killed_does_not_leave_what_looks_complete(written, tmp_path, monkeypatch):
  folder = shutil.copytree(written, tmp_path / "copy")

  def killed(path, ignore_errors):
    raise KeyboardInterrupt

  monkeypatch.setattr(shutil, "rmtree", killed)
  with pytest.raises(KeyboardInterrupt):
    write_corpus(folder, SETTINGS, fresh=True)
  assert not (folder / "corpus.json").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_somebodys_songs_is_not_touched(tmp_path, fresh):
  (tmp_path / "songs").mkdir()
  (tmp_path / "songs" / "mine.mp3").write_text("precious")
  with pytest.raises(InputError, match="something else"):
    write_corpus(tmp_path, SETTINGS, fresh=fresh)
  assert list(digests(tmp_path)) == ["songs/mine.mp3"]


@pytest.mark.parametrize("values", [{"num_songs": 0}, {"song_seconds": 0.5}, {"seed": -1}])
def test_settings_out_of_range(values):
  with pytest.raises(InputError, match=r"is out of range: use \d"):
    CorpusSettings(**values)
