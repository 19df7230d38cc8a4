"""The command: results for good vocals, one line and no debris for bad ones."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from singsong_jax.errors import InputError


@pytest.mark.slow
def test_the_four_outputs(run_infer, tmp_path, voice):
  path = tmp_path / "voice of an ünicode name.flac"
  stereo = np.tile(voice(1.5, 44_100), (2, 1))
  soundfile.write(path, stereo.T, 44_100)
  output_dir = run_infer(path, seed=3, temperature=0.9)
  assert sorted(p.name for p in output_dir.iterdir()) == [
    "accompaniment.json",
    "instrumental.wav",
    "mix.wav",
    "picture.png",
  ]
  mix, rate_hz = soundfile.read(output_dir / "mix.wav")
  instrumental, _ = soundfile.read(output_dir / "instrumental.wav")
  details = json.loads((output_dir / "accompaniment.json").read_text())
  assert (mix.shape, rate_hz) == (stereo.T.shape, 44_100)
  gain = details["levels"][0]["mix_gain"]
  np.testing.assert_allclose(mix[:, 0], gain * (stereo[0] + instrumental), atol=1e-4)
  assert (details["seed"], details["sampling"]["temperature"], details["windows"]) == (3, 0.9, 2)
  assert details["vocals"] == str(path)


@pytest.mark.slow
def test_several_samples_with_the_fine_stage(run_infer, fine_model_dir, tmp_path, voice):
  soundfile.write(tmp_path / "voice.wav", voice(1.2), 16_000)
  output_dir = run_infer(
    tmp_path / "voice.wav",
    fine_model_dir=str(fine_model_dir),
    samples=2,
    top_p=0.95,
    guidance_scale=1.2,
    fine_temperature=0.7,
    overlap_seconds=0.2,
    loudness=-30.0,
  )
  names = [f"{kind}_{i}.wav" for kind in ("instrumental", "mix") for i in (0, 1)]
  assert sorted(p.name for p in output_dir.iterdir()) == ["accompaniment.json", *names, "picture.png"]
  details = json.loads((output_dir / "accompaniment.json").read_text())
  assert details["sampling"] | {"top_p": 0.95, "guidance_scale": 1.2} == details["sampling"]
  assert (details["fine_sampling"]["temperature"], details["overlap_seconds"]) == (0.7, 0.2)
  assert [level["instrumental_lufs"] for level in details["levels"]] == pytest.approx([-30, -30], abs=0.5)
  skipped = run_infer(tmp_path / "voice.wav", fine_model_dir=str(fine_model_dir), skip_fine=True)
  assert json.loads((skipped / "accompaniment.json").read_text())["fine_model"] is None


def bad_vocals(folder, voice):
  """Name → (path, words of the error)."""
  (folder / "text.wav").write_text("this is not audio")
  (folder / "empty.wav").touch()
  sounds = {
    "nothing": np.zeros(0),
    "silent": np.zeros(16_000),
    "nan": np.where(np.arange(16_000) == 77, np.nan, voice(1.0)),
    "three": np.tile(voice(1.0), (3, 1)).T,
    "short": voice(0.1),
    "long": np.zeros(4_000 * 7_200),
  }
  for name, samples in sounds.items():
    rate_hz = 4_000 if name == "long" else 16_000
    subtype = "FLOAT" if name == "nan" else "PCM_16"
    soundfile.write(folder / f"{name}.wav", samples, rate_hz, subtype=subtype)
  return {
    "missing.wav": "no such file",
    "text.wav": "not audio",
    "empty.wav": "empty",
    "nothing.wav": "0.00 s",
    "silent.wav": "silent",
    "nan.wav": "not finite",
    "three.wav": "3 channels",
    "short.wav": "0.10 s",
    "long.wav": "longer than 600 s",
  }


def test_every_kind_of_bad_vocals_is_refused_by_name(run_infer, tmp_path, voice):
  cases = bad_vocals(tmp_path, voice)
  for name, words in cases.items():
    with pytest.raises(InputError, match=words):
      run_infer(tmp_path / name, max_seconds=600.0)
    assert not (tmp_path / "out").exists(), name


def test_a_bad_model_directory_is_refused(run_infer, tmp_path, voice):
  soundfile.write(tmp_path / "voice.wav", voice(1.0), 16_000)
  with pytest.raises(InputError, match=r"model\.json"):
    run_infer(tmp_path / "voice.wav", model_dir=str(tmp_path))
  with pytest.raises(InputError, match="no checkpoint of step 8; it has 7"):
    run_infer(tmp_path / "voice.wav", step=8)
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_process_ends_with_status_2_and_one_line(tmp_path):
  command = [sys.executable, "-m", "singsong_jax.infer", "--vocals=nowhere.wav", "--model_dir=m"]
  result = subprocess.run([*command, f"--output_dir={tmp_path / 'out'}"], capture_output=True, text=True)
  assert result.returncode == 2
  assert result.stderr == "error: cannot read nowhere.wav: no such file\n"


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(model_dir, tmp_path, voice):
  soundfile.write(tmp_path / "voice.wav", voice(1.0), 16_000)
  limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
  ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
  code = limit + ignore + "runpy.run_module('singsong_jax.infer', run_name='__main__')"
  arguments = [
    f"--vocals={tmp_path / 'voice.wav'}",
    f"--model_dir={model_dir}",
    f"--output_dir={tmp_path / 'out'}",
  ]
  result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
  assert result.returncode == 2
  assert "instrumental_0.f32: File too large" in result.stderr.splitlines()[-1]
  # The finished windows stay, for the same command to go on with when there is space; no half of a file does.
  assert [path.name for path in (tmp_path / "out").iterdir()] == [".singsong_work"]
  assert sorted(path.name for path in (tmp_path / "out/.singsong_work").iterdir()) == [
    "settings.json",
    "window_00000.npy",
  ]


@pytest.mark.slow
def test_compiled_programs_are_kept_for_the_next_process(model_dir, tmp_path, voice):
  soundfile.write(tmp_path / "voice.wav", voice(1.0), 16_000)
  command = [sys.executable, "-m", "singsong_jax.infer", f"--vocals={tmp_path / 'voice.wav'}"]
  command += [f"--model_dir={model_dir}", f"--output_dir={tmp_path / 'out'}"]
  cache = {"SINGSONG_CACHE_DIR": str(tmp_path / "cache"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
  quick = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # so small a model compiles in a second
  environment = {**os.environ, **cache, **quick}
  programs = []
  for _ in range(2):
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "warning" not in result.stderr.lower()
    programs.append(sorted(path.name for path in (tmp_path / "cache/xla").glob("*-cache")))
  assert programs[0] and programs[0] == programs[1]
