"""The command and its parts: pairing, the table, what is refused."""

import csv
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.errors import InputError
from singsong_jax.evaluation.clips import Mixes, find_clips, find_mixes, read_clips
from singsong_jax.evaluation.comparison import evaluate
from singsong_jax.evaluation.embeddings import get_embedding
from singsong_jax.evaluation.table import compare, embed_clips

RATE_HZ = 16_000


def write(path, waveform, rate_hz=RATE_HZ):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, waveform, rate_hz, subtype="FLOAT")


def music(seed, brightness=1.0, seconds=3.0):
  """Filtered noise; brightness 1 is white."""
  noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ))
  return brightness * noise + (1 - brightness) * np.convolve(noise, np.ones(8) / 8, mode="same")


@pytest.fixture
def folders(tmp_path):
  """Ten vocals, the true mixes, and instrumentals like the true ones and unlike them."""
  for index in range(10):
    voice, true = 0.2 * music(100 + index, 0.2), music(index)
    write(tmp_path / "vocals" / f"{index}.wav", voice)
    write(tmp_path / "mixes" / f"{index}.wav", voice[: 3 * RATE_HZ] + true)
    write(tmp_path / "good" / f"{index}" / "instrumental.wav", music(200 + index))
    write(tmp_path / "good" / f"{index}" / "mix.wav", voice)  # infer's other file
    write(tmp_path / "bad" / f"{index}.wav", music(300 + index, 0.0), RATE_HZ)
  return tmp_path


def test_clips_are_found_as_files_and_as_infer_leaves_them(folders):
  names = [str(index) for index in range(10)]
  for name in ("vocals", "good", "bad"):
    assert list(find_clips(folders / name)) == names
  assert find_clips(folders / "good")["3"].name == "instrumental.wav"
  soundfile.write(folders / "bad" / "3.flac", np.zeros(10), RATE_HZ)
  with pytest.raises(InputError, match="two clips '3'"):
    find_clips(folders / "bad")


def test_of_a_demo_corpus_the_stems_are_taken(songs_dir):
  for part in ("vocals", "instrumental"):
    found = find_clips(songs_dir, part)
    assert [*found] == [f"song_{i:05}" for i in range(4)] and found["song_00002"].stem == part


def test_mixes_are_sums(folders):
  mixes = Mixes.pair(find_clips(folders / "vocals"), find_clips(folders / "bad"), "bad")
  for name, waveform in mixes.read(RATE_HZ):
    parts = [soundfile.read(folders / folder / f"{name}.wav")[0] for folder in ("vocals", "bad")]
    np.testing.assert_allclose(waveform, np.sum(parts, axis=0), atol=1e-6)


def test_real_mixes_are_found_as_they_are_or_added_up(folders, tmp_path):
  assert list(find_mixes(folders / "mixes")) == list(find_clips(folders / "vocals"))
  for name in ("bass", "drums", "mixture"):
    write(tmp_path / "musdb" / "a" / f"{name}.wav", music(1))
  assert {name: path.name for name, path in find_mixes(tmp_path / "musdb").items()} == {"a": "mixture.wav"}
  for name in ("vocals", "instrumental"):
    write(tmp_path / "songs" / "a" / f"{name}.wav", 0.5 * music(1))
  ((name, waveform),) = find_mixes(tmp_path / "songs").read(RATE_HZ)
  assert name == "a"
  np.testing.assert_allclose(waveform, music(1), atol=1e-6)
  write(tmp_path / "songs" / "b" / "mix.wav", music(2))
  with pytest.raises(InputError, match="mixes that are not theirs"):
    find_mixes(tmp_path / "songs")
  (tmp_path / "songs" / "b" / "mix.wav").rename(tmp_path / "songs" / "b.wav")
  with pytest.raises(InputError, match="mixes that are not theirs"):
    find_mixes(tmp_path / "songs")
  with pytest.raises(InputError, match="mixes that are not theirs"):  # one song's stems are no mixes
    find_mixes(tmp_path / "songs" / "a")
  for name in ("mix", "stems/vocals", "stems/instrumental"):
    write(tmp_path / "both" / "a" / f"{name}.wav", music(1))
  assert {name: path.name for name, path in find_mixes(tmp_path / "both").items()} == {"a": "mix.wav"}
  (tmp_path / "musdb" / "a" / "mixture.wav").unlink()
  with pytest.raises(InputError, match=r"has bass, drums of songs, and no NAME/mix\.wav"):
    find_mixes(tmp_path / "musdb")


def test_clips_of_a_song_are_drawn_and_halved_together(folders):
  embedding = get_embedding("logmel")
  known = embed_clips(read_clips(find_clips(folders / "mixes"), RATE_HZ), embedding)
  songs = [np.concatenate(known[i : i + 2]) for i in range(0, 10, 2)]
  tracks = [i // 2 for i in range(10)]
  by_clip = compare(known, {"a": known[::-1]}, embedding, draws=50, tracks=tracks, reference_tracks=tracks)
  by_song = compare(songs, {"a": songs[::-1]}, embedding, draws=50)
  assert by_clip.floor == pytest.approx(by_song.floor)
  assert (by_clip.rows[0].clips, by_song.rows[0].clips) == (10, 5)
  alone = compare(known, {"a": known[::-1]}, embedding, draws=50)
  assert by_clip.rows[0].frechet == alone.rows[0].frechet and by_clip.floor != alone.floor


def test_found_clips_of_an_export_are_of_its_songs(tmp_path):
  for song in "abcd":
    for number in ("000", "001"):
      for stem, seed in (("vocals", 1), ("instrumental", 2)):
        write(tmp_path / "songs" / song / number / f"{stem}.wav", music(ord(song) * seed + int(number)))
  (tmp_path / "songs" / "export.json").write_text(json.dumps({"filter": {}, "counts": {}}))
  given = {"references": f"{tmp_path}/songs", "vocals": f"{tmp_path}/songs"}
  tables = {}
  for kind in ("clips", "songs"):  # of songs, or each one of its own
    (tmp_path / "songs" / "export.json").write_text(
      json.dumps({"filter": {"x": 1} if kind == "clips" else None, "counts": {}})
    )
    tables[kind] = evaluate(
      **given, instrumentals={"a": f"{tmp_path}/songs"}, output_dir=f"{tmp_path}/{kind}"
    )
  assert tables["clips"].rows[0].frechet == tables["songs"].rows[0].frechet
  assert tables["clips"].floor != tables["songs"].floor
  for song in "cd":
    shutil.rmtree(tmp_path / "songs" / song)
  (tmp_path / "songs" / "export.json").write_text(json.dumps({"filter": {"x": 1}, "counts": {}}))
  with pytest.raises(InputError, match="2 clips cannot be halved"):
    evaluate(**given, instrumentals={"a": f"{tmp_path}/songs"}, output_dir=f"{tmp_path}/few")
  for index in range(4):
    write(tmp_path / "real" / f"{index}.wav", music(index))
  given["references"] = f"{tmp_path}/real"  # four songs, but the vocals are of two
  with pytest.raises(InputError, match="2 clips cannot be halved"):
    evaluate(**given, instrumentals={"a": f"{tmp_path}/songs"}, output_dir=f"{tmp_path}/few")


def test_what_was_found_is_not_mixed_up_with_another_runs(folders):
  given = {"references": f"{folders}/mixes", "vocals": f"{folders}/vocals", "output_dir": f"{folders}/out"}
  evaluate(**given, instrumentals={"a": f"{folders}/good"})
  with pytest.raises(InputError, match=r"another run \(sets differ\)"):
    evaluate(**given, instrumentals={"a": f"{folders}/bad"})
  for unused in ({"step": 7}, {"separator": "repet"}, {"sampling": {"temperature": 1.0}}):
    with pytest.raises(InputError, match="step, separator and sampling are for --songs"):
      evaluate(**given, instrumentals={"a": f"{folders}/good"}, **unused)


def test_a_worse_system_is_farther_away(folders):
  embedding = get_embedding("logmel")
  vocals = find_clips(folders / "vocals")
  known = embed_clips(read_clips(find_clips(folders / "mixes"), RATE_HZ), embedding)
  found = {
    name: embed_clips(Mixes.pair(vocals, find_clips(folders / name), name).read(RATE_HZ), embedding)
    for name in ("good", "bad")
  }
  table = compare(known, found, embedding, draws=100)
  good, bad = table.rows
  assert bad.frechet > 10 * good.frechet and bad.kad > good.kad + 10
  assert (
    good.low <= good.high < bad.low
  )  # with ten clips the distance itself is too large, and above its interval
  assert (good.clips, good.vectors, good.embedding) == (10, 30, "log-mel statistics")
  assert good.frechet_at_infinity is None and 0 < table.floor
  assert table == compare(known, found, embedding, draws=100)


@pytest.mark.slow
def test_the_command(folders):
  command = [sys.executable, "-m", "singsong_jax.evaluate", f"--references={folders}/mixes"]
  command += [f"--vocals={folders}/vocals", f"--output_dir={folders}/out"]
  command += [f"--instrumentals=isolated={folders}/good", f"--instrumentals=separated={folders}/bad"]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  result = json.loads((folders / "out" / "results.json").read_text())
  isolated, separated = (row["frechet"] for row in result["rows"])
  assert f"FADi {isolated:.3f}, FADs {separated:.3f}, Δ {isolated - separated:.3f}" in done.stdout
  with open(folders / "out" / "results.csv") as file:
    rows = list(csv.DictReader(file))
  assert [row["system"] for row in rows] == ["isolated", "separated"]
  assert {row["embedding"] for row in rows} == {"log-mel statistics"}
  assert (folders / "out" / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_gin_file_says_what_flags_do_not(folders):
  lines = [
    "import singsong_jax.evaluation.comparison",
    f"evaluate.references = '{folders}/mixes'",
    f"evaluate.vocals = '{folders}/vocals'",
    f"evaluate.instrumentals = {{'isolated': '{folders}/good'}}",
    "evaluate.seed = 5",
  ]
  (folders / "it.gin").write_text("\n".join(lines))
  command = [sys.executable, "-m", "singsong_jax.evaluate", f"--gin_file={folders}/it.gin"]
  by_file = [*command, f"--output_dir={folders}/by_file"]
  by_flags = [*command, f"--output_dir={folders}/by_flags", f"--instrumentals=isolated={folders}/bad"]
  tables = []
  for arguments in (by_file, by_flags):
    subprocess.run(arguments, capture_output=True, check=True)
    tables.append(json.loads((pathlib.Path(arguments[4].partition("=")[2]) / "results.json").read_text()))
  assert tables[1]["rows"][0]["frechet"] > 10 * tables[0]["rows"][0]["frechet"]
  unknown = subprocess.run([*by_file, "--gin.evaluate.embeding='x'"], capture_output=True, text=True)
  assert unknown.returncode == 2 and "did you mean embedding?" in unknown.stderr


def test_what_cannot_be_evaluated(folders):
  vocals = find_clips(folders / "vocals")
  (folders / "bad" / "3.wav").unlink()
  write(folders / "bad" / "11.wav", music(0))
  with pytest.raises(
    InputError, match="1 vocals have no instrumental, '3' among them; 1 instrumentals have no"
  ):
    Mixes.pair(vocals, find_clips(folders / "bad"), "bad")
  write(folders / "good" / "3" / "instrumental.wav", music(0, seconds=2.0))
  with pytest.raises(InputError, match=r"lasts 2\.00 s, its vocals .* 3\.00 s"):
    list(Mixes.pair(vocals, find_clips(folders / "good"), "good").read(RATE_HZ))
  write(folders / "good" / "3" / "instrumental.wav", np.full(3 * RATE_HZ, np.nan))
  with pytest.raises(InputError, match="samples are not finite"):
    list(Mixes.pair(vocals, find_clips(folders / "good"), "good").read(RATE_HZ))
  embedding = get_embedding("logmel")
  with pytest.raises(InputError, match=r"clip 'a' lasts 0\.50 s: too short for log-mel statistics"):
    embed_clips(iter([("a", np.zeros(8_000))]), embedding)
  one = embed_clips(iter([("a", music(0, seconds=1.0))]), embedding)
  with pytest.raises(InputError, match="a covariance takes"):
    compare(one, {"a": one}, embedding)
  with pytest.raises(InputError, match="is not a folder of clips"):
    find_clips(folders / "nowhere")
  with pytest.raises(InputError, match="holds no clips"):
    (folders / "empty").mkdir()
    find_clips(folders / "empty")


@pytest.mark.slow
def test_a_model_is_asked_for_songs_it_does_not_know(songs_dir, model_dir, tmp_path):
  """FADi, FADs, Δ, NLLi and NLLs in one go; what was killed goes on, and other settings are refused."""
  command = [
    sys.executable,
    "-m",
    "singsong_jax.evaluate",
    f"--songs={songs_dir}",
    f"--output_dir={tmp_path}/out",
  ]
  command += [f"--model_dir={model_dir}", "--temperature=0.5"]
  command += ["--gin.evaluate.sampling={'temperature': 0.9, 'top_k': 40}", "--seed=3"]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  results = json.loads((tmp_path / "out/results.json").read_text())
  isolated, separated = results["rows"]
  assert (isolated["system"], separated["system"]) == ("isolated", "separated")
  assert f"NLLi {isolated['nll']:.3f}, NLLs {separated['nll']:.3f}" in done.stdout
  assert isolated["nll_masked"] < isolated["nll"]
  assert isolated["clips"] == results["reference_clips"] == 4
  options = json.loads((tmp_path / "out/run.json").read_text())["options"]
  assert (options["temperature"], options["top_k"]) == (0.5, 40)
  made = sorted((tmp_path / "out/instrumentals").rglob("*.wav"))
  assert len(made) == 8
  made[0].unlink()
  kept = made[1].stat().st_mtime_ns
  subprocess.run(command, capture_output=True, check=True)
  assert made[1].stat().st_mtime_ns == kept
  assert json.loads((tmp_path / "out/results.json").read_text()) == results
  other = subprocess.run([*command[:-1], "--seed=4"], capture_output=True, text=True)
  assert other.returncode == 2
  assert "the results of another run (seed differ)" in other.stderr
  write_corpus(tmp_path / "other", CorpusSettings(num_songs=4, song_seconds=4, seed=12), num_processes=1)
  with pytest.raises(InputError, match=r"another run \(digest differ\)"):  # songs of the same names
    evaluate(
      songs=f"{tmp_path}/other",
      model_dir=str(model_dir),
      output_dir=f"{tmp_path}/out",
      sampling={"temperature": 0.5, "top_k": 40},
      seed=3,
    )
