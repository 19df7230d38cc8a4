"""The stages one by one."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from data_pipelines import clip_records, load, make_clips, noisy_vocals, reports, separate
from data_pipelines.settings import Settings
from data_pipelines.sources.base import Song, digest_songs, find_songs
from singsong_jax.audio.separation.base import Clip
from singsong_jax.errors import InputError
from tasks.schema import write_records

SETTINGS = Settings(window_seconds=1.0)


def test_songs_are_found_in_order_with_their_folders(songs):
  found, others = find_songs(str(songs))
  assert [song.id for song in found][:4] == ["0.flac", "2.flac", "4.flac", "6.flac"]
  assert "album/7.wav" in [song.id for song in found] and others == 1
  assert len({song.key for song in found}) == len(found) == 13


def test_hidden_files_are_not_songs(songs):
  (songs / "._0.flac").touch()
  assert len(find_songs(str(songs)).songs) == 13


def test_the_digest_tells_names_and_sizes(songs):
  before = digest_songs(find_songs(str(songs)).songs)
  assert before == digest_songs(find_songs(str(songs)).songs)
  (songs / "text.mp3").write_text("longer than before")
  assert before != digest_songs(find_songs(str(songs)).songs)


def test_split_shares():
  songs = [Song(id=f"{i}.wav", path="") for i in range(4000)]
  settings = Settings(validation_fraction=0.1, test_fraction=0.2)
  splits = [settings.split(song) for song in songs]
  assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.02)
  assert splits.count("validation") / 4000 == pytest.approx(0.1, abs=0.02)
  assert {song.shard(4) for song in songs} == {0, 1, 2, 3}


def test_the_split_of_a_song_never_changes():
  names = [f"song_{index:05d}.wav" for index in range(6)]
  splits = [Settings().split(Song(id=name, path="/any")) for name in names]
  assert splits == ["train", "train", "validation", "train", "train", "train"]


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 1), (48_000, 2), (22_050, 2)])
def test_clips_are_mono_44100_hz_and_drop_the_remainder(tmp_path, rate_hz, channels):
  waveform = np.linspace(-0.5, 0.5, round(2.7 * rate_hz))[:, None] * np.ones(channels)
  soundfile.write(tmp_path / "a.wav", waveform, rate_hz)
  with load.load_song(Song(id="a.wav", path=str(tmp_path / "a.wav")), 1.0) as song:
    assert song.seconds == pytest.approx(2.7, abs=1e-4)
    clips = list(song.clips())
  assert [(clip.song, clip.offset_seconds) for clip in clips] == [("a.wav", 0.0), ("a.wav", 1.0)]
  assert all(clip.mix.shape == (44_100,) and clip.sample_rate_hz == 44_100 for clip in clips)
  assert clips[1].mix[22_050] == pytest.approx(-0.5 + 1.5 / 2.7, abs=1e-3)


def test_a_song_without_one_whole_clip(tmp_path):
  soundfile.write(tmp_path / "a.wav", np.zeros(9 * 44_100), 44_100)
  with pytest.raises(InputError, match=r"too_short: 9.00 s, a clip takes 10 s"):
    with load.load_song(Song(id="a.wav", path=str(tmp_path / "a.wav")), 10.0):
      pass


def test_a_long_song_takes_no_more_memory(tmp_path):
  peaks = []
  for seconds in (60, 240):
    path = tmp_path / f"{seconds}.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, seconds * 22_050), 22_050)
    tracemalloc.start()
    with load.load_song(Song(id="a", path=str(path)), 10.0) as song:
      assert sum(1 for _ in song.clips()) == seconds // 10
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < 1.1 * peaks[0]


def make_clip(mix):
  return Clip(mix=mix, sample_rate_hz=44_100, song="a.wav", offset_seconds=20.0)


class Fixed:
  name = "fixed"

  def __init__(self, vocals):
    self.vocals = vocals

  def separate(self, clips):
    return self.vocals[None]


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_stems_sum_to_the_mix_at_both_rates(rate_hz):
  rng = np.random.default_rng(0)
  mix, vocals = rng.uniform(-0.5, 0.5, (2, 44_100)).astype(np.float32)
  (stems,) = separate.separate(Fixed(vocals), [make_clip(mix)])
  assert separate.clip_id(stems.clip) == "a.wav@20"
  np.testing.assert_allclose(stems.vocals + stems.instrumental, mix, atol=1e-6)
  record = make_clips.to_record(stems, rate_hz)
  total = record.vocals + record.instrumental
  assert total.shape == (rate_hz,)
  np.testing.assert_allclose(total, make_clips.resample(mix, 44_100, rate_hz), atol=1e-5)


@pytest.mark.parametrize("vocals", [np.zeros(5, np.float32), np.full(10, np.nan, np.float32)])
def test_a_separator_that_misbehaves(vocals):
  with pytest.raises(InputError, match="separator 'fixed' gave vocals"):
    separate.separate(Fixed(vocals), [make_clip(np.zeros(10, np.float32))])


@pytest.mark.parametrize("peak", [0.0, 1e-6, 0.3, 1.0, 1.7, 4.0])
def test_clip_records_keep_24_bits_and_what_exceeds_full_scale(tmp_path, peak):
  rng = np.random.default_rng(1)
  waveform = rng.uniform(-1, 1, 16_000).astype(np.float32)
  waveform[0], waveform[1] = 1, -1
  record = clip_records.ClipRecord(
    clip_id="é.wav@0",
    song_id="é.wav",
    offset_seconds=0.0,
    sample_rate_hz=24_000,
    vocals=peak * waveform,
    instrumental=-0.5 * waveform,
    vocals_peak_rms_db=-np.inf,
    instrumental_peak_rms_db=-12.5,
  )
  write_records(tmp_path / "a", [clip_records.serialize(record)])
  (read,) = clip_records.read_clips(tmp_path / "a")
  np.testing.assert_allclose(read.vocals, record.vocals, atol=max(1, 2 * peak) * 2**-23, rtol=0)
  np.testing.assert_allclose(read.instrumental, record.instrumental, atol=2**-23, rtol=0)
  names = (
    "clip_id",
    "song_id",
    "offset_seconds",
    "sample_rate_hz",
    "vocals_peak_rms_db",
    "instrumental_peak_rms_db",
  )
  assert [getattr(read, name) for name in names] == [getattr(record, name) for name in names]


def test_noise_is_the_papers_and_differs_by_seed_clip_and_draw():
  seeds = {
    noisy_vocals.noise_seed(*key) for key in [(0, "a@0", 0), (1, "a@0", 0), (0, "a@10", 0), (0, "a@0", 1)]
  }
  assert len(seeds) == 4
  record = clip_records.ClipRecord(
    clip_id="a@0",
    song_id="a",
    offset_seconds=0.0,
    sample_rate_hz=16_000,
    vocals=np.zeros(160_000, np.float32),
    instrumental=np.zeros(160_000, np.float32),
    vocals_peak_rms_db=0.0,
    instrumental_peak_rms_db=0.0,
  )
  noise = noisy_vocals.noisy_vocals(SETTINGS, record, draw=2)
  assert noise.std() == pytest.approx(0.01, rel=0.02) and noise.dtype == np.float32
  np.testing.assert_array_equal(noise, noisy_vocals.noisy_vocals(SETTINGS, record, draw=2))
  faster = noisy_vocals.noisy_vocals(SETTINGS, record.resampled(24_000), draw=2)
  assert faster.shape == (240_000,) and faster.std() == pytest.approx(0.01, rel=0.02)


def test_reports_add_up(tmp_path):
  first = reports.Report(clips_in=3, kept=1, on_disk=1)
  first.filtered["vocals_too_loud"] += 1
  first.fail("a.wav", "a.wav@0", "separate", ValueError("odd"))
  first.fail("b.wav", None, "load", InputError("empty"))
  first.check("a")
  first.write(tmp_path / "report.json")
  second = reports.Report.read(tmp_path / "report.json")
  assert second == first
  both = reports.total([first, second])
  assert (both.clips_in, both.kept, both.dead_clips, both.filtered["vocals_too_loud"]) == (6, 2, 2, 2)
  assert [letter.reason for letter in first.dead_letters] == ["ValueError: odd", "empty"]
  first.on_disk = 0
  with pytest.raises(RuntimeError, match="unaccounted"):
    first.check("a")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"noise_draws": 0}, "noise_draws is 0; it must be at least 1"),
    ({"num_shards": -1}, "num_shards is -1; it must be at least 0"),
    ({"filter": "fastsga"}, "--filter=fastsga: .*did you mean fastsag"),
    ({"validation_fraction": 0.6, "test_fraction": 0.4}, "sum to < 1"),
    ({"test_fraction": -0.1}, "must be ≥ 0"),
    ({"window_seconds": 0.00001}, "window_seconds: .* not a whole number"),
  ],
)
def test_impossible_settings(change, message):
  with pytest.raises(InputError, match=message):
    Settings(**change)
