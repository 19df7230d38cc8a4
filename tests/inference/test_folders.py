"""inference/folders.py, and the command with a folder of voices."""

import json
import pathlib

import pytest
import soundfile

from singsong_jax.errors import InputError
from singsong_jax.inference.folders import accompany_all, voices_in


def test_names_are_paths_without_suffix_unless_two_would_be_one(tmp_path):
  for name in (
    "Audio/vocadito_1.wav",
    "Audio/vocadito_2.wav",
    "b.flac",
    "b.mp3",
    "Annotations/a.csv",
    ".c.wav",
  ):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  assert {name: path.name for name, path in voices_in(tmp_path).items()} == {
    "Audio/vocadito_1": "vocadito_1.wav",
    "Audio/vocadito_2": "vocadito_2.wav",
    "b.flac": "b.flac",
    "b.mp3": "b.mp3",
  }
  with pytest.raises(InputError, match="Annotations holds no audio files"):
    voices_in(tmp_path / "Annotations")


def test_results_are_no_voices_and_no_voice_is_lost(tmp_path):
  for name in ("song.wav", "song/vocals.wav", "song/instrumental.wav", "out/song/mix.wav"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  found = voices_in(tmp_path, tmp_path / "out")
  assert {name: str(path.relative_to(tmp_path)) for name, path in found.items()} == {
    "song": "song/vocals.wav",
    "song.wav": "song.wav",
  }
  assert len(voices_in(tmp_path, tmp_path.parent)) == 3  # results beside the folder of voices
  with pytest.raises(InputError, match="results need one of their own"):
    voices_in(tmp_path, tmp_path / "out" / "..")
  (tmp_path / "stems" / "a").mkdir(parents=True)  # a demo corpus: its other folder has mixes
  for name in ("vocals", "instrumental"):
    (tmp_path / "stems" / "a" / f"{name}.wav").touch()
  assert {name: path.name for name, path in voices_in(tmp_path).items()} == {"a": "vocals.wav"}


def test_one_bad_voice_does_not_end_it(tmp_path):
  voices = {name: pathlib.Path(f"{name}.wav") for name in "abc"}

  def accompany(voice, folder):
    if voice.name == "b.wav":
      raise InputError("b.wav is silent")
    return [folder / "mix.wav"]

  assert list(accompany_all(voices, tmp_path, accompany)) == [tmp_path / "a/mix.wav", tmp_path / "c/mix.wav"]
  lines = (tmp_path / "dead_letter.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [{"vocals": "b.wav", "reason": "b.wav is silent"}]
  assert list(accompany_all({"a": voices["a"]}, tmp_path, accompany)) == [tmp_path / "a/mix.wav"]
  assert not (tmp_path / "dead_letter.jsonl").exists()
  with pytest.raises(InputError, match="not one of 1 voices could be used"):
    list(accompany_all({"b": pathlib.Path("b.wav")}, tmp_path, accompany))


@pytest.mark.slow
def test_the_command_takes_a_folder(run_infer, tmp_path, voice):
  (tmp_path / "voices" / "Audio").mkdir(parents=True)
  for index in (1, 2):
    soundfile.write(tmp_path / "voices" / "Audio" / f"{index}.wav", voice(1.2), 16_000)
  (tmp_path / "voices" / "broken.wav").write_text("no voice")
  output_dir = run_infer(tmp_path / "voices")
  for index in (1, 2):
    assert (output_dir / "Audio" / str(index) / "accompaniment.json").exists()
  assert "broken.wav is damaged" in (output_dir / "dead_letter.jsonl").read_text()
