"""MUSDB18's tracks as the folders of songs that the evaluation takes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from data_pipelines import job, song_folders
from data_pipelines.settings import SONG_RATE_HZ
from data_pipelines.sources.base import Song
from singsong_jax.errors import InputError
from singsong_jax.evaluation.clips import Mixes, find_clips
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.inference.folders import voices_in

ROOT = job.__file__.rpartition("/data_pipelines/")[0]
INSTRUMENTS = ("drums", "bass", "other")
CLIP = 3 * SONG_RATE_HZ  # samples


@pytest.fixture(scope="module")
def musdb(tmp_path_factory):
  """Like MUSDB18-HQ: two test tracks of 11 s, whose voice falls silent after 6 s, and a broken one."""
  folder = tmp_path_factory.mktemp("musdb")
  rng = np.random.default_rng(0)
  for name in ("A - One", "B - Two", "C - Broken"):
    track = folder / "test" / name
    track.mkdir(parents=True)
    for stem in ("vocals", *INSTRUMENTS):
      waveform = rng.uniform(-0.6, 0.6, (11 * SONG_RATE_HZ, 2)).astype(np.float32)
      if stem == "vocals":
        waveform[2 * CLIP :] = 0
      soundfile.write(track / f"{stem}.wav", waveform, SONG_RATE_HZ, subtype="FLOAT")
  (folder / "test/C - Broken/bass.wav").write_bytes(b"RIFF")
  return folder


def export(musdb, output, *more):
  command = [sys.executable, "-m", "data_pipelines.export_songs", f"--songs=musdb:{musdb}", "--split=test"]
  command += [f"--output_dir={output}", "--clip_seconds=3", *more]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def mono(path):
  return soundfile.read(path, dtype="float32")[0].mean(axis=1)


def test_clips_with_vocals(musdb, tmp_path):
  """Of three clips a track the first two; their stems are MUSDB18's, unscaled; what is missing is named."""
  done = export(musdb, tmp_path / "out")
  assert done.returncode == 0, done.stderr
  songs = find_songs(tmp_path / "out")
  names = [f"test/{track}/{number:03d}" for track in ("A - One", "B - Two") for number in (0, 1)]
  assert [song.name for song in songs] == names
  track = musdb / "test/A - One"
  second = slice(CLIP, 2 * CLIP)
  voice, rate_hz = songs[1].read_vocals()
  assert rate_hz == SONG_RATE_HZ
  np.testing.assert_allclose(voice, mono(track / "vocals.wav")[second], atol=1e-6)
  instrumental = sum(mono(track / f"{stem}.wav")[second] for stem in INSTRUMENTS)
  assert np.abs(instrumental).max() > 1  # as floats, it is not clipped
  np.testing.assert_allclose(songs[1].read_instrumental(SONG_RATE_HZ), instrumental, atol=1e-6)
  counts = json.loads((tmp_path / "out/export.json").read_text())["counts"]
  assert (counts["kept"], counts["left_out"]) == (4, {"vocals_silent": 2})
  assert "test/C - Broken" in counts["failed"] and "could not be read: test/C - Broken" in done.stdout
  assert "4 kept, left out: 2 vocals_silent" in done.stdout


def test_the_folder_is_that_of_vocals_and_of_instrumentals(musdb, tmp_path):
  """For the listening study, and for `evaluate --vocals`."""
  export(musdb, tmp_path / "out")
  vocals, true = (find_clips(tmp_path / "out", part) for part in ("vocals", "instrumental"))
  assert list(vocals) == list(Mixes.pair(vocals, true, "true").instrumentals)
  assert vocals["test/A - One/000"].name == "vocals.wav"


def test_what_was_made_of_it_goes_to_a_study(musdb, tmp_path):
  """`infer --vocals=TEST` hears the vocals alone; instrumentals are found by their songs' names."""
  export(musdb, tmp_path / "out")
  names = [*find_clips(tmp_path / "out", "vocals")]
  assert [*voices_in(tmp_path / "out")] == names
  for name in names:  # as `evaluate` and `judge` keep what they make
    path = tmp_path / "made" / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(CLIP), SONG_RATE_HZ)
  assert [*find_clips(tmp_path / "made")] == names


def test_whole_songs(musdb, tmp_path):
  assert export(musdb, tmp_path / "out", "--whole").returncode == 0
  first, _ = find_songs(tmp_path / "out")
  assert first.name == "test/A - One"
  assert len(first.read_vocals()[0]) == 3 * CLIP  # two seconds are left over


@pytest.mark.slow
def test_going_on_and_other_settings(musdb, tmp_path):
  export(musdb, tmp_path / "out")
  before = (tmp_path / "out/export.json").read_text()
  lost = tmp_path / "out/test/A - One/001/vocals.wav"
  lost.unlink()
  assert export(musdb, tmp_path / "out").returncode == 0
  assert lost.exists() and (tmp_path / "out/export.json").read_text() == before
  unfinished = {name: value for name, value in json.loads(before).items() if name != "counts"}
  (tmp_path / "out/export.json").write_text(json.dumps(unfinished))
  with pytest.raises(InputError, match="not finished: give its command once more"):
    find_songs(tmp_path / "out")
  other = export(musdb, tmp_path / "out", "--filter=none")
  assert other.returncode == 2 and "other songs or settings" in other.stderr
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine/precious.txt").touch()
  refused = export(musdb, tmp_path / "mine")
  assert refused.returncode == 2 and "is not empty" in refused.stderr


@pytest.mark.slow
def test_what_cannot_be_exported(musdb, tmp_path):
  silent = export(musdb, tmp_path / "out", "--min_vocals_db=0")
  assert silent.returncode == 2 and "nothing of 3 songs was kept" in silent.stderr
  soundfile.write(tmp_path / "song.wav", np.zeros(1_000), SONG_RATE_HZ)
  command = [sys.executable, "-m", "data_pipelines.export_songs", f"--songs={tmp_path}", "--output_dir=out"]
  mixes = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": ROOT}, capture_output=True, text=True)
  assert mixes.returncode == 2 and "came without stems" in mixes.stderr


@pytest.mark.parametrize("name", ["/songs/one", "../one", "a/../../one"])
def test_an_id_that_would_lead_out_of_the_folder_is_refused(name, tmp_path):
  with pytest.raises(InputError, match="cannot be a folder of the export"):
    song_folders.export([Song(id=name, path="x", vocals=("v",), instrumental=("i",))], tmp_path, 10.0, None)
  assert not [*tmp_path.iterdir()]
