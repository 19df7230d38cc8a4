"""A folder as people have it: twenty good songs in every format, and everything that goes wrong with
files.
"""

import json

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from data_pipelines import job
from tasks.schema import read_records

GOOD = {  # name: rate, channels
  "8k.wav": (8_000, 1),
  "11k.wav": (11_025, 2),
  "16k.wav": (16_000, 1),
  "22k.aiff": (22_050, 1),
  "32k.wav": (32_000, 2),
  "44k.wav": (44_100, 2),
  "48k.wav": (48_000, 1),
  "88k.flac": (88_200, 1),
  "96k.wav": (96_000, 2),
  "surround.wav": (48_000, 6),
  "surround.flac": (44_100, 6),
  "44k.flac": (44_100, 2),
  "a name with spaces.mp3": (44_100, 2),
  "mono.mp3": (48_000, 1),
  "old.mp3": (22_050, 1),
  "vorbis.ogg": (44_100, 2),
  "surround.ogg": (48_000, 6),
  "Ünïcode/声.ogg": (32_000, 1),
  "one/same name.wav": (44_100, 1),
  "two/same name.wav": (44_100, 1),
}
SECONDS = 2.3  # two clips of one second
BAD = {
  "text.mp3": "damaged, or not audio",
  "empty.wav": "is empty (0 bytes)",
  "nan.wav": "samples are not finite",
  "late nan.wav": "samples are not finite",
  "half a second.wav": "too_short: 0.50 s, a clip takes 1 s",
  "gone.flac": "no such file",
  "garbage.flac": "damaged, or not audio",
}


def music(index, rate_hz, channels, seconds=SECONDS):
  """float `[samples, channels]`: a note of its own for each song, over noise."""
  rng = np.random.default_rng(index)
  times = np.arange(round(seconds * rate_hz)) / rate_hz
  note = np.sin(2 * np.pi * (150 + 37 * index) * times)[:, None]
  return 0.3 * note + 0.1 * rng.uniform(-1, 1, (len(times), channels))


def write_good_songs(folder):
  for index, (name, (rate_hz, channels)) in enumerate(GOOD.items()):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, music(index, rate_hz, channels), rate_hz)


def write_bad_songs(folder):
  (folder / "text.mp3").write_text("not audio at all, " * 1_000)
  (folder / "empty.wav").touch()
  broken = music(50, 44_100, 1)
  soundfile.write(folder / "nan.wav", np.full_like(broken, np.nan), 44_100, subtype="FLOAT")
  broken[-3] = np.nan
  soundfile.write(folder / "late nan.wav", broken, 44_100, subtype="FLOAT")
  soundfile.write(folder / "half a second.wav", music(51, 44_100, 1, 0.5), 44_100)
  (folder / "gone.flac").symlink_to(folder / "nowhere.flac")
  whole = (folder / "44k.flac").read_bytes()
  (folder / "garbage.flac").write_bytes(whole[: len(whole) // 2] + bytes(5_000))
  soundfile.write(folder / "silent.wav", np.zeros(round(SECONDS * 44_100)), 44_100)
  soundfile.write(folder / "cut.mp3", music(52, 44_100, 2, 4.0), 44_100)
  content = (folder / "cut.mp3").read_bytes()
  (folder / "cut.mp3").write_bytes(content[: 6 * len(content) // 10])
  (folder / "cover.jpg").touch()


@pytest.fixture
def records():
  """Clip id → serialised record, of a data directory; every one must be there once."""

  def read(output):
    found = {}
    for path in sorted((output / "tokens").glob("*-of-*")):
      for serialized in read_records(path):
        example = tf.train.Example.FromString(serialized)
        clip = example.features.feature["clip_id"].bytes_list.value[0].decode()
        assert clip not in found
        found[clip] = serialized
    return found

  return read


def test_everything_is_accounted_for_once_and_the_good_are_untouched(tmp_path, settings, separator, records):
  for folder in ("good", "all"):
    write_good_songs(tmp_path / folder)
  write_bad_songs(tmp_path / "all")
  manifests = {
    folder: job.prepare(
      settings=settings, songs=f"{tmp_path}/{folder}", output_dir=f"{tmp_path}/{folder}_out"
    )
    for folder in ("good", "all")
  }
  good, everything = (records(tmp_path / f"{folder}_out") for folder in ("good", "all"))
  assert sorted(good) == sorted(f"{name}@{offset}" for name in GOOD for offset in (0, 1))
  assert {clip: everything[clip] for clip in good} == good
  # What is left of the cut MP3 is music; silence is filtered.
  extra = sorted(everything.keys() - good.keys())
  assert extra == ["cut.mp3@0", "cut.mp3@1"]

  counts = manifests["all"]["counts"]
  assert counts["songs"] == {
    "found": 20 + len(BAD) + 2,
    "used": 20 + 2,
    "excluded": 0,
    "dead_lettered": len(BAD),
    "other_files": 1,
  }
  assert counts["clips"] == {
    "in": 40 + 2 + 2,
    "kept": 40 + 2,
    "filtered": {"instrumental_silent": 2},
    "dead_lettered": 0,
  }
  lines = (tmp_path / "all_out" / "dead_letter.jsonl").read_text().splitlines()
  letters = {letter["song"]: letter for letter in map(json.loads, lines)}
  assert len(lines) == len(letters) and letters.keys() == BAD.keys()
  for name, reason in BAD.items():
    assert reason in letters[name]["reason"] and letters[name]["stage"] == "load", letters[name]
  assert manifests["good"]["counts"]["songs"]["dead_lettered"] == 0


def test_the_sound_of_every_format_arrives(tmp_path, settings, separator):
  """The note of each song is the loudest thing in its clips, and lies where it should."""
  from data_pipelines import clip_records
  from data_pipelines.settings import DataDir
  from data_pipelines.sources.base import find_songs

  write_good_songs(tmp_path / "songs")
  job.prepare(settings=settings, songs=f"{tmp_path}/songs", output_dir=f"{tmp_path}/out")
  for song in find_songs(f"{tmp_path}/songs").songs:
    index = list(GOOD).index(song.id)
    for clip in clip_records.read_clips(clip_records.clips_path(DataDir(f"{tmp_path}/out"), song)):
      mix = clip.vocals + clip.instrumental
      spectrum = np.abs(np.fft.rfft(mix * np.hanning(len(mix))))
      assert spectrum.argmax() == pytest.approx(150 + 37 * index, abs=2), song.id
      assert clip.instrumental_peak_rms_db > -25, song.id


def test_the_report_tells_people(tmp_path, settings, separator):
  write_good_songs(tmp_path / "songs")
  write_bad_songs(tmp_path / "songs")
  job.prepare(settings=settings, songs=f"{tmp_path}/songs", output_dir=f"{tmp_path}/out")
  report = (tmp_path / "out" / "report.md").read_text()
  assert "| songs found | 29 |" in report
  assert "| … unusable (dead_letter.jsonl) | 7 |" in report
  assert "| … left out: instrumental_silent | 2 | 4.5% |" in report
  assert "| … kept | 42 | 95.5% |" in report
  assert "| semantic | " in report and "| acoustic level 12 | " in report
  picture = (tmp_path / "out" / "report.png").read_bytes()
  assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
