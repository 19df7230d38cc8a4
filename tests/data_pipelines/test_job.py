"""data_pipelines/job.py and stages.py: the whole job on small songs."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from data_pipelines import clip_records, fit_tokenizers, job, make_tokens
from data_pipelines.inventory import Shard, read_songs
from data_pipelines.settings import DataDir, Settings
from data_pipelines.sources.base import find_songs
from singsong_jax import files
from singsong_jax.errors import InputError
from tasks.schema import RecordSchema, read_records

ROOT = pathlib.Path(job.__file__).parent.parent
# Nothing repeats within a second, so the real separator leaves little of the instrumental.
ANYTHING_GOES = {"min_instrumental_db": -300.0, "max_vocal_excess_db": 300.0}


@pytest.fixture
def few_songs(songs):
  """For the real separator, which takes its time."""
  for path in [*songs.glob("album/*"), songs / "4.flac", songs / "6.flac"]:
    path.unlink()
  return songs


def prepare(settings, songs, output, **options):
  return job.prepare(settings=settings, songs=str(songs), output_dir=str(output), **options)


def records(output):
  """clip id → (split, example) of every record."""
  found = {}
  for path in sorted((output / "tokens").glob("*of*")):
    for serialized in read_records(path):
      example = tf.train.Example.FromString(serialized)
      clip = example.features.feature["clip_id"].bytes_list.value[0].decode()
      assert clip not in found, f"{clip} was written twice"
      found[clip] = path.name.split(".")[0], example
  return found


def codes(example, name):
  return list(example.features.feature[name].int64_list.value)


def test_everything_is_accounted_for_once(songs, settings, separator, tmp_path):
  manifest = prepare(settings, songs, tmp_path / "out")
  counts = manifest["counts"]
  assert counts["songs"] == {"found": 13, "used": 10, "excluded": 0, "dead_lettered": 3, "other_files": 1}
  assert counts["clips"] == {
    "in": 8 * 2 + 3 + 2,
    "kept": 8 * 2 + 2 + 1,
    "filtered": {"instrumental_silent": 1},
    "dead_lettered": 1,
  }
  lines = (tmp_path / "out" / "dead_letter.jsonl").read_text().splitlines()
  letters = {(letter["song"], letter["clip"]): letter for letter in map(json.loads, lines)}
  assert letters.keys() == {
    ("breaks.wav", "breaks.wav@1"),
    ("empty.wav", None),
    ("short.wav", None),
    ("text.mp3", None),
  }
  assert letters["breaks.wav", "breaks.wav@1"]["reason"] == "RuntimeError: no idea"
  assert letters["breaks.wav", "breaks.wav@1"]["stage"] == "separate"
  assert letters["short.wav", None]["reason"] == "too_short: 0.90 s, a clip takes 1 s"
  found = records(tmp_path / "out")
  assert len(found) == 19 and "breaks.wav@2" in found and "quiet.wav@1" not in found
  by_split = {split: entry["records"] for split, entry in manifest["splits"].items()}
  assert by_split == {name: sum(split == name for split, _ in found.values()) for name in by_split}


def test_records_follow_the_manifests_schema(songs, settings, separator, tmp_path):
  manifest = prepare(settings, songs, tmp_path / "out")
  schema = RecordSchema.from_description(manifest["schema"])
  assert (schema.vocabulary.num_semantic_codes, schema.vocabulary.num_acoustic_codes) == (16, 16)
  assert (schema.geometry.window_seconds, schema.num_noise_draws) == (1.0, 2)
  schema.check_files(sorted((tmp_path / "out" / "tokens").glob("*of*")))
  for name in ("codec", "semantics"):
    assert manifest["tokenizers"][name]["fingerprint"] == manifest["job"][name]


def test_splits_go_by_song(songs, settings, separator, tmp_path, replace):
  settings = replace(settings, validation_fraction=0.3, test_fraction=0.3)
  prepare(settings, songs, tmp_path / "out")
  splits = {}
  for clip, (split, _) in records(tmp_path / "out").items():
    assert splits.setdefault(clip.split("@")[0], split) == split
  assert len(set(splits.values())) > 1


def test_noise_draws_differ_and_depend_on_the_clip_alone(songs, settings, separator, tmp_path):
  """Other songs in the folder, so other shards and another order, change nothing."""
  prepare(settings, songs, tmp_path / "all")
  for name in ("0.flac", "album/1.wav", "text.mp3"):
    (songs / name).unlink()
  prepare(settings, songs, tmp_path / "fewer")
  everything, fewer = records(tmp_path / "all"), records(tmp_path / "fewer")
  assert len(fewer) == len(everything) - 4
  assert all(everything[clip] == record for clip, record in fewer.items())
  _, example = fewer["2.flac@0"]
  noisy = codes(example, "vocals_acoustic_noisy")
  half = len(noisy) // 2
  assert noisy[:half] != noisy[half:] != codes(example, "vocals_acoustic_clean")


def test_another_seed_changes_the_noise_only(songs, settings, separator, tmp_path, replace):
  prepare(settings, songs, tmp_path / "a")
  prepare(replace(settings, seed=1), songs, tmp_path / "b")
  first, second = (records(tmp_path / name)["2.flac@0"][1] for name in "ab")
  assert codes(first, "vocals_acoustic_noisy") != codes(second, "vocals_acoustic_noisy")
  assert codes(first, "vocals_acoustic_clean") == codes(second, "vocals_acoustic_clean")
  assert codes(first, "instrumental_acoustic") == codes(second, "instrumental_acoustic")


def test_a_finished_job_is_left_alone(songs, settings, separator, tmp_path, contents, capsys):
  prepare(settings, songs, tmp_path / "out")

  def times():
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.name != ".lock"}

  before = times()
  prepare(settings, songs, tmp_path / "out")
  assert "is complete already" in capsys.readouterr().out
  assert before == times()


def test_other_settings_or_songs_are_refused_unless_fresh(songs, settings, separator, tmp_path, replace):
  prepare(settings, songs, tmp_path / "out")
  other = replace(settings, noise_draws=3)
  with pytest.raises(InputError, match=r"was made with noise_draws=2, now it is 3; .*--fresh"):
    prepare(other, songs, tmp_path / "out")
  (songs / "0.flac").unlink()
  with pytest.raises(InputError, match=r"was made with songs=.*13.*now it is .*12"):
    prepare(settings, songs, tmp_path / "out")
  manifest = prepare(other, songs, tmp_path / "out", fresh=True)
  assert manifest["schema"]["num_noise_draws"] == 3 and manifest["counts"]["songs"]["found"] == 12


def test_somebody_elses_folder_is_not_touched(songs, settings, separator, tmp_path):
  (tmp_path / "out" / "clips").mkdir(parents=True)
  (tmp_path / "out" / "clips" / "precious").touch()
  for fresh in (False, True):
    with pytest.raises(InputError, match="clips is in the way, and not of this job"):
      prepare(settings, songs, tmp_path / "out", fresh=fresh)
  assert (tmp_path / "out" / "clips" / "precious").exists()


@pytest.mark.parametrize("stage", ["separate", "tokenize"])
def test_a_stopped_job_goes_on_to_the_same_result(
  songs, settings, separator, tmp_path, contents, monkeypatch, stage
):
  prepare(settings, songs, tmp_path / "whole")
  calls = []

  def stop(*args):
    calls.append(args)
    if len(calls) == 5:
      raise KeyboardInterrupt
    return original(*args)

  module = {"separate": "data_pipelines.make_clips", "tokenize": "data_pipelines.make_tokens"}[stage]
  original = getattr(sys.modules[module], stage)
  with monkeypatch.context() as patch:
    patch.setattr(f"{module}.{stage}", stop)
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
      prepare(settings, songs, tmp_path / "out")
  assert len(calls) == 5 and not (tmp_path / "out" / "manifest.json").exists()
  prepare(settings, songs, tmp_path / "out")
  assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_no_usable_song(songs, settings, separator, tmp_path):
  for path in [*songs.glob("*.flac"), *songs.glob("album/*"), songs / "quiet.wav", songs / "breaks.wav"]:
    path.unlink()
  with pytest.raises(InputError, match=r"not one clip of 3 songs is left.*dead_letter\.jsonl"):
    prepare(settings, songs, tmp_path / "out")
  assert len((tmp_path / "out" / "dead_letter.jsonl").read_text().splitlines()) == 3
  assert not (tmp_path / "out" / "manifest.json").exists()


def test_no_clip_that_can_be_tokenised(songs, settings, separator, tmp_path, monkeypatch):
  def fail(*_):
    raise RuntimeError("no idea")

  monkeypatch.setattr("data_pipelines.make_tokens.tokenize", fail)
  with pytest.raises(InputError, match=r"not one of 19 clips could be tokenised; .*dead_letter\.jsonl says"):
    prepare(settings, songs, tmp_path / "out")
  lines = (tmp_path / "out" / "dead_letter.jsonl").read_text().splitlines()
  assert sum(json.loads(line)["stage"] == "tokenize" for line in lines) == 19
  assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_full_disk_stops_the_job_with_one_line(songs, settings, separator, tmp_path, monkeypatch):
  def full(path, records):
    list(records)
    raise InputError(f"cannot write {path}: No space left on device")

  monkeypatch.setattr("tasks.schema.write_records", full)
  with pytest.raises(InputError, match=r"cannot write .*\.tfrecord: No space left on device") as caught:
    prepare(settings, songs, tmp_path / "out")
  assert "while running" not in str(caught.value)


def test_lost_records_are_noticed(songs, settings, separator, tmp_path, monkeypatch):
  monkeypatch.setattr("tasks.schema.write_records", lambda path, records: len(list(records)) - 1)
  with pytest.raises(RuntimeError, match="clips are unaccounted for"):
    prepare(settings, songs, tmp_path / "out")


def test_lost_songs_are_noticed(songs, settings, separator, tmp_path, monkeypatch):
  monkeypatch.setattr(Shard, "songs", lambda shard: read_songs(shard.songs_path)[1:])
  with pytest.raises(InputError, match=r"cannot read .*\.json"):
    prepare(settings, songs, tmp_path / "out")


def test_an_empty_split_is_shouted_about(songs, settings, separator, tmp_path, replace, capsys):
  prepare(replace(settings, test_fraction=0.0), songs, tmp_path / "out")
  assert "WARNING: the test split" in capsys.readouterr().err


def test_what_is_missing_or_wrong(songs, settings, tmp_path, replace):
  with pytest.raises(InputError, match="--songs is missing"):
    prepare(settings, "", tmp_path)
  with pytest.raises(InputError, match="is not a folder"):
    prepare(settings, tmp_path / "nowhere", tmp_path / "out")
  with pytest.raises(InputError, match="holds no audio files"):
    (tmp_path / "bare").mkdir()
    prepare(settings, tmp_path / "bare", tmp_path / "out")
  with pytest.raises(InputError, match=r"nowhere\.npz does not exist"):
    prepare(replace(settings, codec=str(tmp_path / "nowhere.npz")), songs, tmp_path / "out")
  with pytest.raises(InputError, match="--separator=magic: it may be repet"):
    prepare(replace(settings, separator="magic"), songs, tmp_path / "out")
  with pytest.raises(InputError, match=r"--codec=mdtc: it may be soundstream, mdct, .*; did you mean mdct\?"):
    prepare(replace(settings, codec="mdtc"), songs, tmp_path / "out")
  with pytest.raises(InputError, match=r"semantics.npz holds 'logmel', not a codec"):
    prepare(replace(settings, codec=settings.semantics), songs, tmp_path / "out")
  with pytest.raises(InputError, match="simulated needs a source"):
    prepare(replace(settings, separator="simulated"), songs, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_nothing_begins_where_the_output_or_a_model_cannot_be_had(songs, settings, tmp_path, replace):
  (tmp_path / "file").touch()
  with pytest.raises(InputError, match=r"cannot use .*/file/out as a folder"):
    prepare(settings, songs, tmp_path / "file" / "out")
  pytest.importorskip("onnxruntime")
  (tmp_path / "vocals.onnx").write_text("no network")
  for name, message in [("none.onnx", "no such file"), ("vocals.onnx", "is not an ONNX model")]:
    with pytest.raises(InputError, match=message):
      prepare(replace(settings, separator=f"mdx:{tmp_path}/{name}"), songs, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_multi_threading_is_refused(songs, settings, separator, tmp_path):
  options = ["--runner=DirectRunner", "--direct_running_mode=multi_threading"]
  with pytest.raises(InputError, match="silently loses records"):
    prepare(settings, songs, tmp_path / "out", beam_options=options)


def test_leftovers_of_a_killed_job_are_swept(songs, settings, separator, tmp_path):
  out = tmp_path / "out"
  prepare(settings, songs, out)
  (out / "manifest.json").unlink()
  (out / "clips" / ".a.12345678.partial.tfrecord").touch()
  prepare(settings, songs, out)
  assert not list(out.rglob("*.partial*"))


def test_the_fit_samples_training_songs_only(songs, settings, separator, tmp_path, replace):
  settings = replace(settings, test_fraction=0.4, fit_clips=6)
  prepare(settings, songs, tmp_path / "out")
  found, data_dir = find_songs(str(songs)).songs, DataDir(str(tmp_path / "out"))
  members = fit_tokenizers.sample_clips(settings, data_dir, found)
  assert sum(map(len, members.values())) == 6
  assert {settings.split(song) for song in members} == {"train"}
  assert members == fit_tokenizers.sample_clips(settings, data_dir, found)
  clips = fit_tokenizers.FitClips(settings, data_dir, members, 8_000, clean=True)
  for _ in range(2):  # it can be gone through again
    assert [clip.shape for clip in clips] == [(8_000,)] * 3 * 6


@pytest.mark.parametrize(("frame_rate_hz", "sample_rate_hz"), [(86.1328125, 44_100), (25.0, 44_100.5)])
def test_frames_and_samples_must_divide_a_clip(settings, frame_rate_hz, sample_rate_hz):
  class Foreign:
    name, num_levels, num_codes = "foreign", 8, 1024

  Foreign.frame_rate_hz, Foreign.sample_rate_hz = frame_rate_hz, sample_rate_hz
  with pytest.raises(
    InputError, match=r"semantics 'foreign' do not fit --window_seconds: .* not a whole number"
  ):
    make_tokens.record_schema(settings, Foreign, Foreign)


@pytest.mark.slow
def test_the_command_survives_sigkill(few_songs, settings, tmp_path, contents):
  """With the real separator: killed after its third song, then run again."""

  def command(output):
    flags = {
      "songs": few_songs,
      "output_dir": output,
      "codec": settings.codec,
      "semantics": settings.semantics,
    }
    flags |= {"window_seconds": 1.0, "noise_draws": 2, "num_shards": 2, **ANYTHING_GOES}
    return [sys.executable, "-m", "data_pipelines.prepare", *(f"--{k}={v}" for k, v in flags.items())]

  killed = tmp_path / "killed"
  with subprocess.Popen(command(killed), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
    while process.poll() is None and len(list(killed.glob("clips/*/*.json"))) < 3:
      pass
    os.kill(process.pid, signal.SIGKILL)
  assert not (killed / "manifest.json").exists()
  for output in (killed, tmp_path / "whole"):
    done = subprocess.run(command(output), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "songs: 7 found, 4 used, 3 in dead_letter.jsonl" in done.stdout
  assert contents(killed) == contents(tmp_path / "whole")


def test_tokenisers_are_fitted_where_they_have_to_be(songs, separator, tmp_path):
  settings = Settings(
    codec="mdct,num_codes=16,num_levels=3", semantics="logmel,num_codes=8", window_seconds=1.0, noise_draws=1
  )
  manifest = prepare(settings, songs, tmp_path / "out")
  assert manifest["schema"]["vocabulary"]["num_acoustic_codes"] == 16
  assert manifest["schema"]["geometry"]["num_acoustic_levels"] == 3
  assert manifest["job"]["semantics"]["num_codes"] == 8
  kept = {path.name: path.read_bytes() for path in (tmp_path / "out" / "tokenizers").iterdir()}
  (tmp_path / "out" / "manifest.json").unlink()
  prepare(settings, songs, tmp_path / "out")
  assert kept == {path.name: path.read_bytes() for path in (tmp_path / "out" / "tokenizers").iterdir()}


@pytest.mark.slow
def test_bad_input_ends_with_status_2_and_one_line(tmp_path):
  command = [sys.executable, "-m", "data_pipelines.prepare", f"--songs={tmp_path}/no", "--output_dir=x"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2 and "Traceback" not in done.stderr
  assert done.stderr.splitlines()[-1] == f"error: --songs={tmp_path}/no is not a folder"


@pytest.mark.slow
def test_gin_can_set_everything(few_songs, settings, tmp_path):
  bindings = {"prepare.songs": str(few_songs), "prepare.output_dir": str(tmp_path / "out")}
  bindings |= {"Settings.codec": settings.codec, "Settings.semantics": settings.semantics}
  bindings |= {"Settings.window_seconds": 1.0, "Settings.noise_draws": 1, "Settings.num_shards": 1}
  bindings |= {f"Settings.{name}": value for name, value in ANYTHING_GOES.items()}
  lines = [f"{name} = {value!r}\n" for name, value in bindings.items()]
  (tmp_path / "prepare.gin").write_text("".join(lines))
  command = [sys.executable, "-m", "data_pipelines.prepare", f"--gin_file={tmp_path}/prepare.gin"]
  subprocess.run([*command, "--noise_draws=3"], cwd=ROOT, check=True, capture_output=True)
  made = files.read_json(tmp_path / "out" / "manifest.json")["job"]
  assert (made["num_shards"], made["noise_draws"]) == (1, 3)  # a flag wins over gin


def test_clip_files_are_named_by_song(songs, tmp_path):
  (song, *_), _ = find_songs(str(songs))
  path = clip_records.clips_path(DataDir(str(tmp_path)), song)
  assert path == f"{tmp_path}/clips/{song.key[:2]}/{song.key}.tfrecord"
