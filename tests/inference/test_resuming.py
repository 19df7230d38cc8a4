"""A run that is killed and started again gives what it would have given."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from singsong_jax.audio.tracks import FileTrack
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.output_folder import WORK_FOLDER
from singsong_jax.inference.settings import Settings
from singsong_jax.inference.token_store import FolderStore
from singsong_jax.inference.vocals import check_vocals

SETTINGS = Settings(seed=3, samples=2)
WAVES = [f"{kind}_{i}.wav" for i in (0, 1) for kind in ("instrumental", "mix")]


@pytest.fixture(scope="module")
def model(model_dir, fine_model_dir):
  return Accompanist.from_checkpoint(model_dir, fine_model_dir=fine_model_dir)


@pytest.fixture
def vocals(tmp_path, voice):
  soundfile.write(tmp_path / "voice.wav", voice(2.2, 22_050), 22_050)
  return check_vocals(FileTrack(tmp_path / "voice.wav"))


class Killed(BaseException):
  """Not an Exception: nobody may catch it."""


def interrupt_after(monkeypatch, count):
  """Has the store die once it has written `count` arrays."""
  write, written = FolderStore.__setitem__, []

  def dying_write(self, name, array):
    if len(written) == count:
      raise Killed
    written.append(name)
    write(self, name, array)

  monkeypatch.setattr(FolderStore, "__setitem__", dying_write)
  return written


def contents(folder):
  return {name: (folder / name).read_bytes() for name in WAVES}


@pytest.mark.parametrize("count", [0, 2, 4, 9])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(model, vocals, tmp_path, monkeypatch, capsys, count):
  model.write(vocals, tmp_path / "whole", SETTINGS)
  with monkeypatch.context() as patch, pytest.raises(Killed):
    interrupt_after(patch, count)
    model.write(vocals, tmp_path / "killed", SETTINGS)
  assert [path.name for path in (tmp_path / "killed").iterdir()] == [WORK_FOLDER]
  with monkeypatch.context() as patch:
    written = interrupt_after(patch, 100)
    model.write(vocals, tmp_path / "killed", SETTINGS)
  assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
  assert not (tmp_path / "killed" / WORK_FOLDER).exists()
  windows, chunks = 4, 8  # 1 + 0.52 · 3 s; 2.2 s in chunks of 0.3 s
  assert len(written) == (windows + chunks - count if count < 9 else 4)  # a batch has four chunks × 2 samples
  assert "going on" in capsys.readouterr().err


def test_leftovers_of_another_setting_are_not_used(model, vocals, tmp_path, monkeypatch, capsys):
  with monkeypatch.context() as patch, pytest.raises(Killed):
    interrupt_after(patch, 5)
    model.write(vocals, tmp_path / "killed", SETTINGS)
  other = Settings(seed=4, samples=2)
  model.write(vocals, tmp_path / "killed", other)
  model.write(vocals, tmp_path / "whole", other)
  assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
  assert "left by a run with another seed\n" in capsys.readouterr().err


def test_another_loudness_goes_on_with_the_same_tokens(model, vocals, tmp_path, monkeypatch):
  with monkeypatch.context() as patch, pytest.raises(Killed):
    interrupt_after(patch, 5)
    model.write(vocals, tmp_path / "killed", SETTINGS)
  written = interrupt_after(monkeypatch, 100)
  model.write(vocals, tmp_path / "killed", Settings(seed=3, samples=2, loudness_lufs=-30.0))
  assert "window_00000" not in written


def test_files_and_arrays_are_the_same_sound(model, vocals, tmp_path):
  model.write(vocals, tmp_path / "out", Settings(seed=3))
  details = json.loads((tmp_path / "out" / "accompaniment.json").read_text())
  waveform, rate_hz = soundfile.read(tmp_path / "voice.wav", dtype="float32")
  result = model.accompany(waveform, rate_hz, seed=3)
  for name, expected in (("instrumental", result.instrumental), ("mix", result.mix[0])):
    found, _ = soundfile.read(tmp_path / "out" / f"{name}.wav")
    np.testing.assert_allclose(found, expected, atol=2**-22)
  assert details["levels"] == result.details["levels"]
  assert details["model"] == result.details["model"]


@pytest.mark.slow
def test_after_a_sigkill_the_same_command_goes_on(model_dir, tmp_path, voice):
  soundfile.write(tmp_path / "voice.wav", voice(30.0), 16_000)

  def start(folder):
    command = [sys.executable, "-m", "singsong_jax.infer", f"--vocals={tmp_path / 'voice.wav'}"]
    command += [f"--model_dir={model_dir}", f"--output_dir={tmp_path / folder}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

  whole = start("whole")
  whole.communicate()
  assert whole.returncode == 0
  process, work = start("killed"), tmp_path / "killed" / WORK_FOLDER
  while len(list(work.glob("window_*.npy"))) < 3:
    assert process.poll() is None
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (tmp_path / "killed" / "mix.wav").exists()
  process = start("killed")
  assert "going on" in process.communicate()[1]
  for name in ("mix.wav", "instrumental.wav"):
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
  assert not work.exists()
