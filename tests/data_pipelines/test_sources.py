"""data_pipelines/sources/: folders, lists and data sets."""

import json

import numpy as np
import pytest
import soundfile

from data_pipelines import clip_records, job, load, musdb_counts
from data_pipelines.settings import SONG_RATE_HZ, DataDir, Settings
from data_pipelines.sources.base import Song, digest_songs, find_songs, split_reference
from singsong_jax import storage
from singsong_jax.audio.resampling import resample
from singsong_jax.errors import InputError


def touch(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch()


def write(path, *waveforms, rate_hz=SONG_RATE_HZ):
  """Channels as given."""
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, np.stack(waveforms, axis=1), rate_hz, subtype="FLOAT")


def ids(source):
  return [song.id for song in find_songs(str(source)).songs]


def test_folders_with_odd_names(tmp_path):
  for name in (
    "b.WAV",
    "a b.mp3",
    "é/ß.flac",
    "x/same.ogg",
    "y/same.ogg",
    "clip.m4a",
    "cover.jpg",
    ".hidden.wav",
  ):
    touch(tmp_path / name)
  (tmp_path / "gone.mp3").symlink_to(tmp_path / "nothing")
  found = find_songs(str(tmp_path))
  assert [song.id for song in found.songs] == [
    "a b.mp3", "b.WAV", "clip.m4a", "gone.mp3", "x/same.ogg", "y/same.ogg", "é/ß.flac",
  ]  # fmt: skip
  assert found.other_files == 1
  digest_songs(found.songs)  # of one that cannot be read too


def test_a_name_that_is_no_text(tmp_path):
  (tmp_path / "a\udcff.wav").touch()
  (song,) = find_songs(str(tmp_path)).songs
  assert song.id == "a\\xff.wav" and len(song.key) == 16
  json.dumps(song.id).encode()


def test_a_folder_in_a_bucket():
  storage.write_text("ram://songs/a/b.wav", "not audio")
  try:
    (song,) = find_songs("ram://songs").songs
    assert (song.id, song.path) == ("a/b.wav", "ram://songs/a/b.wav")
    before = digest_songs([song])
    storage.write_text("ram://songs/a/b.wav", "longer than before")
    assert digest_songs([song]) != before
  finally:
    storage.remove("ram://songs")


def test_lists(tmp_path):
  rows = [
    {"path": "b.wav"},
    {"path": "/far/a.wav", "id": "a", "split": "test", "artist": "left alone"},
    {"vocals": "v.wav", "instrumental": "i.wav", "id": "c"},
  ]
  (tmp_path / "songs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
  lines = ["path,id,split,vocals,instrumental", "b.wav,,,,", "/far/a.wav,a,test,,", ",c,,v.wav,i.wav"]
  (tmp_path / "songs.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
  expected = [
    Song(id="a", path="/far/a.wav", fixed_split="test"),
    Song(id="b.wav", path=f"{tmp_path}/b.wav"),
    Song(
      id="c", path=f"{tmp_path}/v.wav", vocals=(f"{tmp_path}/v.wav",), instrumental=(f"{tmp_path}/i.wav",)
    ),
  ]
  assert find_songs(f"{tmp_path}/songs.jsonl").songs == expected
  assert find_songs(f"{tmp_path}/songs.csv").songs == expected
  assert Settings().split(expected[0]) == "test"


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.csv", "file\nx.wav\n", r"a\.csv has the columns \['file'\]; it needs path"),
    (
      "a.csv",
      "path,split\na.wav,train\nb.wav,dev\n",
      r"a\.csv: line 3: song 'b.wav': split 'dev' is none of",
    ),
    ("a.csv", "path,vocals\n,a.wav\n", r"line 2: song 'a.wav' has one stem without the other"),
    ("a.csv", "path\na.wav\na.wav\n", "two songs have the id 'a.wav'"),
    ("a.csv", "path\n", "lists no songs"),
    ("a.jsonl", '{"path": 3}\n', r"a\.jsonl: line 1: path is 3; expected text"),
    ("a.jsonl", '{"path": "a"}\n{"path"\n', r"a\.jsonl: line 2 is not JSON"),
    ("a.jsonl", '["a.wav"]\n', "line 1 is not a JSON object"),
    ("a.jsonl", '{"id": "a"}\n', "line 1 has neither path nor vocals"),
  ],
)
def test_lists_that_are_none(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(InputError, match=message):
    find_songs(f"{tmp_path}/{name}")


def test_a_list_that_is_missing(tmp_path):
  with pytest.raises(InputError, match=r"cannot read .*none\.csv"):
    find_songs(f"{tmp_path}/none.csv")


def test_fma(tmp_path):
  folder = tmp_path / "fma_small"
  for name in ("000/000002.mp3", "000/000005.mp3", "155/155066.mp3", "README.txt", "checksums.mp3"):
    touch(folder / name)
  assert ids(f"fma:{folder}") == ["000/000002.mp3", "000/000005.mp3", "155/155066.mp3"]
  table = [
    ",album,set,set,track",
    ",tracks,split,subset,title",
    "track_id,,,,",
    "2,7,training,small,Food",
    '5,7,test,large,"This, World"',
  ]
  touch(tmp_path / "fma_metadata" / "tracks.csv")
  (tmp_path / "fma_metadata" / "tracks.csv").write_text("\n".join(table))
  assert [song.fixed_split for song in find_songs(f"fma:{folder}").songs] == ["train", "test", None]
  assert ids(f"fma:{folder},subset=small") == ["000/000002.mp3"]
  assert ids(f"fma:{folder},subset=large,metadata={tmp_path}/fma_metadata") == [
    "000/000002.mp3",
    "000/000005.mp3",
  ]
  with pytest.raises(InputError, match="subset 'tiny' is none of small, medium"):
    find_songs(f"fma:{folder},subset=tiny")
  (tmp_path / "fma_metadata" / "tracks.csv").write_text("a,b\n1,2\n3,4\n")
  with pytest.raises(InputError, match=r"is not FMA's tracks\.csv"):
    find_songs(f"fma:{folder}")
  with pytest.raises(InputError, match="has no files named like"):
    touch(tmp_path / "other" / "a.mp3")
    find_songs(f"fma:{tmp_path}/other")


STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture
def musdb(tmp_path):
  """Like MUSDB18-HQ: a train track whose vocals fall silent, and a test track with a quiet voice on the
  left.
  """
  seconds = np.arange(25 * SONG_RATE_HZ) / SONG_RATE_HZ
  voice = 0.1 * np.sign(np.sin(2 * np.pi * 300 * seconds))  # −20 dB, in any window
  silent_later = np.where(seconds < 10, voice, 0)
  noise = np.random.default_rng(0).uniform(-0.2, 0.2, (3, len(seconds)))
  for subset, name, left, right in [
    ("train", "A - One", silent_later, silent_later),
    ("test", "B - Two", voice, np.zeros_like(voice)),
  ]:
    write(tmp_path / "musdb" / subset / name / "vocals.wav", left, right)
    for stem, waveform in zip(STEMS[1:], noise):
      write(tmp_path / "musdb" / subset / name / f"{stem}.wav", waveform, waveform)
  return tmp_path / "musdb"


def test_musdb_tracks_are_sums_of_stems(musdb):
  found = find_songs(f"musdb:{musdb}").songs
  assert [(song.id, song.fixed_split) for song in found] == [
    ("test/B - Two", "test"),
    ("train/A - One", "validation"),  # the paper's dev set
  ]
  with load.load_song(found[1], 10.0) as song:
    clips = list(song.clips())
  assert song.seconds == 25 and [clip.offset_seconds for clip in clips] == [0, 10]
  stems = [soundfile.read(musdb / "train" / "A - One" / f"{stem}.wav")[0].mean(axis=1) for stem in STEMS]
  size = 10 * SONG_RATE_HZ
  np.testing.assert_allclose(clips[0].mix, np.sum(stems, axis=0)[:size], atol=1e-6)
  np.testing.assert_allclose(clips[0].vocals, stems[0][:size], atol=1e-6)
  assert not clips[1].vocals.any()


@pytest.mark.parametrize("spec", ["isolated", "half"])
def test_the_job_takes_the_same_clips_isolated_and_separated(
  musdb, settings, tmp_path, replace, request, spec
):
  """Those whose true vocals are heard, whatever a separator finds."""
  if spec == "half":
    request.getfixturevalue("separator")
  chosen = replace(settings, separator="isolated" if spec == "isolated" else "repet", filter="musdb")
  manifest = job.prepare(settings=chosen, songs=f"musdb:{musdb}", output_dir=f"{tmp_path}/out")
  assert manifest["counts"]["clips"] == {
    "in": 50,
    "kept": 10,  # the first ten seconds of the train track; the test track has −26 dB in mono
    "filtered": {"vocals_silent": 40},
    "dead_lettered": 0,
  }
  assert {split: entry["records"] for split, entry in manifest["splits"].items()} == {
    "train": 0,
    "validation": 10,
    "test": 0,
  }
  (song,) = [song for song in find_songs(f"musdb:{musdb}").songs if song.id.startswith("train")]
  clip = next(clip_records.read_clips(clip_records.clips_path(DataDir(f"{tmp_path}/out"), song)))
  vocals = soundfile.read(musdb / "train" / "A - One" / "vocals.wav", frames=SONG_RATE_HZ)[0].mean(axis=1)
  mix = sum(
    soundfile.read(musdb / song.id / f"{stem}.wav", frames=SONG_RATE_HZ)[0].mean(axis=1) for stem in STEMS
  )
  expected = vocals if spec == "isolated" else mix / 2
  np.testing.assert_allclose(clip.vocals, resample(expected, SONG_RATE_HZ, 16_000), atol=1e-4)


def test_stems_that_end_sooner_go_on_in_silence(tmp_path):
  write(tmp_path / "v.wav", np.full(30_000, 0.25))
  write(tmp_path / "i.wav", np.full(44_100, 0.5), rate_hz=22_050)
  song = Song(id="a", path="", vocals=(f"{tmp_path}/v.wav",), instrumental=(f"{tmp_path}/i.wav",))
  with load.load_song(song, 1.0) as loaded:
    clips = list(loaded.clips())
  assert loaded.seconds == 2 and len(clips) == 2
  assert clips[0].mix[20_000] == pytest.approx(0.75, abs=1e-3)
  assert clips[0].mix[40_000] == pytest.approx(0.5, abs=1e-3) and not clips[1].vocals.any()


def test_the_calibration_finds_the_definitions_apart(musdb):
  totals, kept, _ = musdb_counts.count_clips(find_songs(f"musdb:{musdb}").songs)
  assert totals == {"train": 2, "test": 2}

  def count(subset, seconds=0.05, reference="full scale", channels="mono"):
    definition = musdb_counts.Definition(window_seconds=seconds, reference=reference, channels=channels)
    return kept[definition, subset]

  assert count("train") == 1  # the second clip has no voice
  # −20 dB on one side alone are −26 dB in mono; a full-scale sine as 0 dB adds 3.
  assert count("test") == 0 and count("test", channels="loudest channel") == 2
  assert count("test", reference="full-scale sine") == 2
  rows = musdb_counts.table(totals, kept, {"train": 0, "test": 348})
  assert len(rows) == 1 + 5 * 2 * 2 + 1 and rows[-1][-1] == "= FastSAG's"
  assert all(row[3] == row[5] == 2 for row in rows[1:]) and "off by 20" in rows[1][-1]


def test_the_excerpts_of_seven_seconds_are_refused(tmp_path):
  for stem in STEMS:
    write(tmp_path / "train" / "A" / f"{stem}.wav", np.zeros(7 * 8_000), rate_hz=8_000)
  with pytest.raises(InputError, match="its 1 tracks are 7 s excerpts, the free sample of MUSDB18"):
    find_songs(f"musdb:{tmp_path}")


def test_musdb_folders_that_are_none(tmp_path, musdb):
  with pytest.raises(InputError, match=r"no tracks; expected .*/train and /test"):
    find_songs(f"musdb:{tmp_path}")
  (musdb / "test" / "B - Two" / "bass.wav").unlink()
  with pytest.raises(InputError, match=r"bass\.wav is missing: a track of MUSDB18-HQ has"):
    find_songs(f"musdb:{musdb}")


def test_streams_of_a_stem_file():
  assert split_reference("/a #1/x.stem.mp4#4") == ("/a #1/x.stem.mp4", 4)
  assert split_reference("/a/song#4.wav") == ("/a/song#4.wav", 0)
  song = Song(id="x", path="p", vocals=("x.mp4#4",), instrumental=("x.mp4#1", "x.mp4#2"))
  assert song.files == ("x.mp4",)
