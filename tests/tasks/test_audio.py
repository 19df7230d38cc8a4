"""Audio batches from a data directory's clips and folders of audio: exact positions, splits, bad input."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from data_pipelines import clip_records
from singsong_jax.errors import InputError
from tasks import schema
from tasks.audio import AudioExamples, audio_batches, audio_iterator
from tasks.audio_units import find_units

RATE = 16_000


def tone(hz, seconds, rate=RATE, level=0.3):
  return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_clips(root, songs=12, clips=2, seconds=1.0):
  """A data directory as `data_pipelines.prepare` leaves it, of tones."""
  root.mkdir(exist_ok=True)
  (root / "job.json").write_text("{}")
  (root / "songs").mkdir(exist_ok=True)
  for split in schema.SPLITS:
    names = [f"song_{song}.wav" for song in range(songs)]
    lines = [json.dumps({"id": name}) for name in names if schema.split_of_song(name, 0.2, 0.1) == split]
    for shard in range(2):
      (root / "songs" / f"{split}-{shard:05d}-of-00002.jsonl").write_text("\n".join(lines[shard::2]))
  for song in range(songs):
    records = [
      clip_records.serialize(
        clip_records.ClipRecord(
          clip_id=f"song_{song}@{clip}",
          song_id=f"song_{song}.wav",
          offset_seconds=float(clip),
          sample_rate_hz=RATE,
          vocals=tone(200 + 10 * song, seconds),
          instrumental=tone(1000 + 10 * clip, seconds),
          vocals_peak_rms_db=-10.0,
          instrumental_peak_rms_db=-10.0,
        )
      )
      for clip in range(clips)
    ]
    schema.write_records(root / "clips" / f"{song % 3:02d}" / f"{song:016d}.tfrecord", records)
  return root


@pytest.fixture
def data_dir(tmp_path):
  return write_clips(tmp_path / "data")


@pytest.fixture
def folder(tmp_path):
  for song in range(30):
    rate = (8000, 22_050, 44_100)[song % 3]
    path = tmp_path / "songs" / f"artist {song % 4}" / f"sóng {song}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([tone(300 + song, 1.5, rate)] * 2, axis=1), rate)
  (tmp_path / "songs" / "cover.jpg").write_bytes(b"not audio")
  return tmp_path / "songs"


def examples(**changes):
  return AudioExamples(**{"segment_seconds": 0.5, **changes})


def iterator(root, part=0, num_parts=1, **changes):
  settings = {"examples": examples(), "batch_size": 4, "seed": 3}
  return audio_iterator(part, num_parts, data_dir=str(root), **{**settings, **changes})


def test_splits_are_by_song_and_complete(data_dir):
  songs = [{unit.song for unit in find_units(data_dir, split).units} for split in schema.SPLITS]
  assert all(songs) and sum(map(len, songs)) == 12 == len(set.union(*songs))
  assert len(find_units(data_dir, "train")) == 2 * len(songs[0])
  for song in set.union(*songs):  # the same as the Beam job's
    assert song in songs[schema.SPLITS.index(schema.split_of_song(song, 0.2, 0.1))]


def test_streams_are_what_they_are_called(data_dir):
  units = find_units(data_dir, "train")
  read = {name: units.read(0, name, RATE, 0.5, 0.0) for name in ("vocals", "instrumental", "mix")}
  np.testing.assert_allclose(read["mix"], read["vocals"] + read["instrumental"], atol=1e-6)
  peaks = {name: np.abs(np.fft.rfft(x)).argmax() * 2 for name, x in read.items()}  # bins of 2 Hz
  assert 200 <= peaks["vocals"] < 320 and 1000 <= peaks["instrumental"] <= 1010
  assert np.array_equal(units.read(0, "mix", RATE, 0.25, 1.0), units.read(0, "mix", RATE, 1.0, 0.0)[-4000:])


def test_noise_is_added_to_noisy_vocals_alone(data_dir):
  units = find_units(data_dir, "train")
  clean, noisy = (examples(streams=(name,)).first_segment(units, 0) for name in ("vocals", "noisy_vocals"))
  assert np.std(noisy - clean) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("kind", ["data_dir", "folder"])
def test_a_position_is_restored_exactly(kind, request, tmp_path):
  root = request.getfixturevalue(kind)
  changes = {"examples": examples(streams=("mix",), min_gain_db=-6.0)}
  batches = iterator(root, **changes)
  first = [next(batches) for _ in range(3)]
  batches.save(tmp_path)
  after = [next(batches) for _ in range(4)]
  again = iterator(root, **changes)
  assert np.array_equal(next(again)["waveform"], first[0]["waveform"])
  again.restore(tmp_path)
  for batch in after:
    restored = next(again)
    assert all(np.array_equal(batch[name], restored[name]) for name in batch)
  assert first[0]["waveform"].shape == (4, 8000) and first[0]["waveform"].dtype == np.float32
  assert np.all(first[0]["weight"] == 1)
  rows = np.concatenate([batch["waveform"] for batch in first + after])
  assert len(np.unique(rows, axis=0)) == len(rows), "another segment each time a unit comes up"


def test_parts_make_up_the_whole(data_dir):
  parts = [iterator(data_dir, part, 2) for part in range(2)]
  whole = iterator(data_dir, num_readers=2)
  for _ in range(2):
    joined = np.concatenate([next(part)["waveform"] for part in parts])
    np.testing.assert_array_equal(next(whole)["waveform"], joined)


def test_evaluation_is_the_same_every_time_and_counts_each_unit_once(data_dir):
  units = find_units(data_dir, "validation")
  runs = [list(audio_batches(data_dir=str(data_dir), examples=examples(), batch_size=3)) for _ in range(2)]
  assert sum(batch["weight"].sum() for batch in runs[0]) == len(units)
  for a, b in zip(*runs):
    np.testing.assert_array_equal(a["waveform"], b["waveform"])
    assert a["waveform"].shape == (3, 8000)


def test_a_folder_of_any_rate_is_heard_at_the_models(folder):
  units = find_units(folder, "train")
  for index in range(3):
    segment = examples(streams=("mix",)).first_segment(units, index)
    number = int(units.units[index].song.split(" ")[-1].removesuffix(".wav"))
    assert segment.shape == (8000,) and np.abs(np.fft.rfft(segment)).argmax() * 2 == pytest.approx(
      300 + number, abs=2
    )


def test_long_files_are_several_units_and_nothing_is_lost(tmp_path):
  soundfile.write(tmp_path / "long.flac", tone(100, 35.0, 8000), 8000)
  split = schema.split_of_song("long.flac", 0.05, 0.05)
  units = find_units(tmp_path, split).units
  assert [(unit.offset, unit.seconds) for unit in units] == [(0, 10), (10, 10), (20, 15)]


def test_silence_is_drawn_again_where_there_is_sound(tmp_path):
  half = np.concatenate([np.zeros(RATE), tone(500, 0.25)]).astype(np.float32)
  soundfile.write(tmp_path / "a.wav", half, RATE)
  units = find_units(tmp_path, schema.split_of_song("a.wav", 0.05, 0.05))
  short = examples(segment_seconds=0.25, streams=("mix",))
  heard = [np.abs(short.random_segment(units, 0, seed)).max() > 1e-4 for seed in range(20)]
  assert np.mean(heard) > 0.7  # by chance a fifth would


def test_bad_input(tmp_path, data_dir, folder, capsys):
  silent = tmp_path / "silent"
  silent.mkdir()
  loud = tmp_path / "loud"
  loud.mkdir()
  for number in range(20):
    soundfile.write(silent / f"{number}.wav", np.zeros(RATE), RATE)
    soundfile.write(loud / f"{number}.wav", np.clip(tone(200, 1.0, level=5.0), -1, 1), RATE)
  mix = examples(streams=("mix",))
  with pytest.raises(InputError, match="all are silent"):
    iterator(silent, examples=mix)
  iterator(loud, examples=mix)
  assert "are clipped" in capsys.readouterr().err
  same = (
    next(iterator(folder, examples=examples(streams=(name,))))["waveform"] for name in ("vocals", "mix")
  )
  np.testing.assert_array_equal(*same)  # files of a folder are what they are
  with pytest.raises(InputError, match="is not a folder"):
    iterator(tmp_path / "absent")
  with pytest.raises(InputError, match="has no audio files"):
    (tmp_path / "empty").mkdir()
    iterator(tmp_path / "empty")
  with pytest.raises(InputError, match="streams has 'drums'"):
    examples(streams=("drums",))
  without = write_clips(tmp_path / "without", songs=1)
  shutil.rmtree(without / "clips")
  with pytest.raises(InputError, match="has no clips/: they were deleted"):
    find_units(without, "train")
  clip = next((data_dir / "clips").rglob("*.tfrecord"))
  clip.write_bytes(clip.read_bytes()[:-9])
  with pytest.raises(InputError, match="cut short"):
    for split in schema.SPLITS:
      find_units(data_dir, split)
