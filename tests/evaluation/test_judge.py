"""The judge with accompanists whose hearing is known: one that plays what the vocals came from, and a deaf
one.
"""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from singsong_jax.audio.io import read_audio, write_wav
from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.errors import InputError
from singsong_jax.evaluation import vocal_use
from singsong_jax.evaluation.judgement import Judge, interval, judgeable, means
from singsong_jax.evaluation.making import Maker
from singsong_jax.evaluation.retrieval import Library, Librosa
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.evaluation.verdict import Verdict
from singsong_jax.files import make_folder


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("songs")
  write_corpus(folder, CorpusSettings(num_songs=8, song_seconds=6, seed=5), num_processes=1)
  return find_songs(folder)


def listener(songs):
  """Plays the accompaniment of the song whose vocals it hears, and noise for anything else."""
  known = [(song.read_vocals()[0], read_audio(song.instrumental)[0][0]) for song in songs]

  def accompany(vocals, rate_hz, seed):
    for sung, played in known:
      if np.array_equal(sung, vocals):
        return played
    return np.random.default_rng(seed).normal(0, 0.05, len(vocals)).astype(np.float32)

  return accompany


def test_who_plays_the_right_song_for_its_vocals_passes_what_needs_no_moved_vocals(songs, tmp_path):
  judge = Judge(songs=songs, maker=Maker(folder=tmp_path))
  rows = judge.conditions(listener(songs), ("right", "shuffled", "noise"))
  found = means(rows)
  assert found["right"]["chord_24"] > 0.95
  assert found["right"]["beat_f"] > 0.8
  assert found["shuffled"]["chord_24"] < 0.3
  verdict = Verdict.of({}, rows, {}, 0)
  assert len(verdict.comparisons) == 4
  assert all(comparison.better > comparison.worse for comparison in verdict.comparisons)


def test_who_is_deaf_fails_and_the_report_says_so(songs, tmp_path, monkeypatch):
  monkeypatch.setattr(vocal_use, "FEWEST_SONGS", len(songs))
  played = songs[0].read_instrumental()

  def deaf(vocals, rate_hz, seed):
    return np.resize(played, len(vocals))

  judge = Judge(songs=songs, maker=Maker(folder=tmp_path))
  verdict = Verdict.of(judge.references(), judge.conditions(deaf), {"model": "deaf"}, 0)
  assert not verdict.passes
  paths = verdict.write(tmp_path)
  results = json.loads(paths[0].read_text(encoding="utf-8"))
  assert results["passes"] is False
  assert results["rows"]["true accompaniment"]["chord_24"] > 0.95
  assert "FAILS the vocal-use gate" in paths[2].read_text(encoding="utf-8")
  assert paths[1].read_text(encoding="utf-8").count("\n") == 1 + 4 + 6
  assert paths[3].stat().st_size > 10_000


def test_baselines_are_rows_of_the_right_length(songs, tmp_path):
  judge = Judge(songs=songs[:2], maker=Maker(folder=tmp_path))
  rows = judge.baselines(Library(songs, Librosa(), seconds=3), Librosa())
  assert list(rows) == ["Random", "Retrieval", "Retrieval, oracle key and tempo"]
  assert all(len(scores) == 2 for scores in rows.values())


def test_what_was_made_is_not_made_again(songs, tmp_path):
  calls = []

  def accompany(vocals, rate_hz, seed):
    calls.append(seed)
    return np.random.default_rng(seed).normal(0, 0.1, len(vocals)).astype(np.float32)

  judge = Judge(songs=songs[:3], maker=Maker(folder=tmp_path))
  first = judge.conditions(accompany, ("right",))
  (tmp_path / "instrumentals/model_right/song_00001.wav").unlink()  # as if killed before it was written
  assert judge.conditions(accompany, ("right",)) == first
  assert len(calls) == 4
  assert calls[1] == calls[3]


def test_songs_whose_beats_cannot_be_heard_are_left_out_by_name(songs, tmp_path):
  for name, waveform in (("a", songs[0].read_instrumental(16_000)), ("b", np.zeros(96_000, np.float32))):
    for stem in ("vocals", "instrumental"):
      write_wav(make_folder(tmp_path / name) / f"{stem}.wav", waveform, 16_000)
  kept, left_out = judgeable(find_songs(tmp_path))
  assert [song.name for song in kept] == ["a"]
  assert len(left_out) == 1 and "b/instrumental.wav: 0 beats are heard" in left_out[0]


def test_songs_that_not_every_condition_can_be_made_of_are_left_out_by_name(songs, tmp_path):
  """Two beats of which half a beat later one is past the end; beats without a chord; a silent singer."""
  known = json.loads(songs[0].annotation.read_text(encoding="utf-8"))
  for name, chords in (("late", ["C:maj"] * 2), ("toneless", [None] * 2)):
    text = json.dumps(
      {**known, "beats_seconds": [5.0, 5.9] if name == "late" else [1.0, 2.0], "chords": chords}
    )
    (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
  write_wav(tmp_path / "silence.wav", np.zeros(96_000, np.float32), 16_000)
  late, toneless = (
    dataclasses.replace(songs[0], annotation=tmp_path / f"{n}.json") for n in ("late", "toneless")
  )
  silent = dataclasses.replace(songs[0], vocals=tmp_path / "silence.wav")
  kept, left_out = judgeable([songs[1], late, toneless, silent])
  assert kept == [songs[1]]
  for why, words in zip(
    left_out, ("late.json: 1 beats", "toneless.json: no chord", "silence.wav is silent"), strict=True
  ):
    assert words in why


def test_who_cannot_play_is_told_for_which_song(songs, tmp_path):
  def fails(vocals, rate_hz, seed):
    raise InputError("no voice")

  with pytest.raises(InputError, match="model, right, song_00000: no voice"):
    Judge(songs=songs, maker=Maker(folder=tmp_path)).conditions(fails, ("right",))


def test_one_song_is_too_few(songs, tmp_path):
  clips = [dataclasses.replace(song, clip_of="one") for song in songs]
  for too_few in (songs[:1], clips):
    with pytest.raises(InputError, match="one song is too few"):
      Judge(songs=too_few, maker=Maker(folder=tmp_path))


def test_clips_are_shuffled_with_those_of_other_songs(songs, tmp_path):
  clips = [dataclasses.replace(song, clip_of=track) for song, track in zip(songs, "AAABBBBC")]
  heard = []

  def accompany(vocals, rate_hz, seed):
    heard.append(vocals)
    return np.random.default_rng(seed).normal(0, 0.1, len(vocals)).astype(np.float32)

  judge = Judge(songs=clips, maker=Maker(folder=tmp_path))
  judge.conditions(accompany, ("shuffled",))
  sung = [song.read_vocals()[0] for song in clips]
  others = [next(i for i, vocals in enumerate(sung) if np.array_equal(vocals, found)) for found in heard]
  assert all(clips[other].track != clip.track for other, clip in zip(others, clips))
  assert len({*others}) > 4  # not one for all
  assert [Judge(songs=songs, maker=Maker(folder=tmp_path))._other(i) for i in range(8)] == [*range(1, 8), 0]


def test_too_few_songs_cannot_pass_and_do_not_fail():
  """8 · 2⁻ⁿ is below 0.001 from n = 13 on. Clips of a song are no more of them."""
  perfect = {metric: 1.0 for metric in ("chord_24", "beat_f")} | {
    "unmoved_chord_24": 0.0,
    "unmoved_beat_f": 0.0,
  }
  nothing = dict.fromkeys(perfect, 0.0)
  kinds = {"right": perfect, "half_beat": perfect, "tritone": perfect}
  kinds |= dict.fromkeys(("shuffled", "silence", "noise"), nothing)

  def verdict(number, tracks=None):
    return Verdict.of({}, {name: [scores] * number for name, scores in kinds.items()}, {}, tracks=tracks)

  assert verdict(13).passes and not verdict(13).too_few
  assert not verdict(12).passes and verdict(12).too_few
  clips = verdict(30, [i % 10 for i in range(30)])
  assert "What fails points the right way" in verdict(12).markdown()
  assert clips.too_few and "Means over 30 clips of 10 songs" in clips.markdown()
  assert "10 songs cannot tell" in clips.markdown() and "13 are the least" in clips.markdown()


def test_an_interval_holds_the_mean_and_narrows_with_songs():
  rng = np.random.default_rng(0)
  few, many = rng.normal(0.5, 0.1, 10), rng.normal(0.5, 0.1, 1000)
  for values in (few, many):
    low, high = interval(values)
    assert low < values.mean() < high
  assert np.diff(interval(many)) < np.diff(interval(few)) / 3
  copies = np.repeat(few, 5)
  assert interval(copies, groups=np.repeat(range(10), 5)) == pytest.approx(interval(few))
  assert np.diff(interval(copies)) < 0.7 * np.diff(interval(few))


@pytest.mark.slow
def test_the_command_judges_a_model_and_fails_one_that_knows_nothing(songs_dir, model_dir, tmp_path):
  command = [sys.executable, "-m", "singsong_jax.judge", f"--songs={songs_dir}", f"--model_dir={model_dir}"]
  command += [f"--output_dir={tmp_path}/out", "--max_songs=2", "--separator=repet", "--noise=0.01"]
  few = subprocess.run(command, capture_output=True, text=True)
  assert few.returncode == 2 and "2 songs are too few to tell whether the model listens" in few.stderr
  start = "import runpy; from singsong_jax.evaluation import vocal_use; vocal_use.FEWEST_SONGS = 2; "
  start += "runpy.run_module('singsong_jax.judge', run_name='__main__', alter_sys=True)"
  done = subprocess.run([sys.executable, "-c", start, *command[3:]], capture_output=True, text=True)
  assert done.returncode == 1, done.stderr
  assert "FAILS the vocal-use gate" in done.stderr
  rows = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["rows"]
  assert {"model, right", "model, tritone", "model, separated (repet)", "model, noise of 0.01"} <= rows.keys()
  assert (tmp_path / "out/instrumentals/model_separated_repet_/song_00001.wav").exists()
  other = subprocess.run([*command, "--seed=1"], capture_output=True, text=True)
  assert other.returncode == 2
  assert "another run (seed differ)" in other.stderr
  lost = subprocess.run([*command, f"--beat_this={tmp_path}/final0.ckpt"], capture_output=True, text=True)
  assert lost.returncode == 2 and "final0.ckpt is not a file" in lost.stderr
