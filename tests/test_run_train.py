"""run_train.sh: which command its arguments stand for. A stub takes the place of Python."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
STUB = '#!/bin/sh\n[ "$2" = pip ] || printf "%s\\n" "$@"\n'


@pytest.fixture
def checkout(tmp_path):
  """A folder with the script, the gin files and an environment that counts as installed."""
  folder = tmp_path / "check out"
  folder.mkdir()
  for name in ("run_train.sh", "pyproject.toml", "constraints.txt"):
    shutil.copy(ROOT / name, folder)
  shutil.copytree(ROOT / "gin", folder / "gin")
  (folder / ".venv/bin").mkdir(parents=True)
  (folder / ".venv/bin/python").write_text(STUB)
  (folder / ".venv/bin/python").chmod(0o755)
  stamp = subprocess.run(
    "cat pyproject.toml constraints.txt | cksum", shell=True, cwd=folder, capture_output=True
  )
  (folder / ".venv/installed").write_bytes(stamp.stdout)
  return folder


def call(checkout, *arguments, cwd=None):
  command = ["bash", str(checkout / "run_train.sh"), *arguments]
  return subprocess.run(command, cwd=cwd or checkout, capture_output=True, text=True)


def test_axes_become_gin_files_and_the_rest_passes_through(checkout):
  result = call(
    checkout,
    "--size=base",
    "--codec=encodec_24khz",
    "--vocals=clean",
    "--features=a_sa",
    "--hardware=tpu",
    "--gin.train.total_steps=3",
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines() == [
    "-m",
    "singsong_jax.train",
    "--gin_file=gin/system/singsong.gin",
    "--gin_file=gin/codec/encodec_24khz.gin",
    "--gin_file=gin/semantics/w2v_bert.gin",
    "--gin_file=gin/size/base.gin",
    "--gin_file=gin/vocals/clean.gin",
    "--gin_file=gin/features/a_sa.gin",
    "--gin_file=gin/hardware/tpu.gin",
    "--gin_file=gin/trainer/native.gin",
    "--gin_file=gin/run/train.gin",
    "--gin.train.total_steps=3",
  ]
  assert "singsong_jax.train --gin_file=gin/system/singsong.gin" in result.stderr


def test_a_system_has_its_own_files_and_only_its_own_axes(checkout):
  result = call(checkout, "--size=tiny", "--system=fine", "--hardware=gpu", "--run=demo")
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines()[2:] == [
    "--gin_file=gin/system/fine.gin",
    "--gin_file=gin/codec/soundstream.gin",
    "--gin_file=gin/size/fine/tiny.gin",
    "--gin_file=gin/hardware/gpu.gin",
    "--gin_file=gin/trainer/native.gin",
    "--gin_file=gin/run/fine/demo.gin",
  ]


@pytest.mark.parametrize(
  ("trainer", "module"), [("t5x", "t5x.train"), ("t5x_eval", "t5x.eval"), ("t5x_infer", "t5x.infer")]
)
def test_upstreams_programs_get_the_same_files_and_absolute_paths(checkout, trainer, module):
  result = call(checkout, f"--trainer={trainer}", "--checkpoint_path=a/checkpoint_5", "--output_dir=/b")
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert lines[:3] == ["-m", module, "--gin_file=gin/system/singsong.gin"]
  assert f"--gin_file=gin/trainer/{trainer}.gin" in lines
  assert lines[-2:] == [f"--gin.CHECKPOINT_PATH='{checkout}/a/checkpoint_5'", "--gin.OUTPUT_DIR='/b'"]


def test_without_upstream_it_says_how_to_get_it(checkout):
  (checkout / ".venv/bin/python").write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec {sys.executable} -S "$@"\n')
  result = call(checkout, "--trainer=t5x")
  assert result.returncode == 2
  assert "t5x is not installed in .venv; docs/t5x.md says how" in result.stderr


def test_paths_are_the_callers(checkout, tmp_path):
  arguments = ("--model_dir=a b/c", "--data_dir=/data")
  assert call(checkout, *arguments).stdout.splitlines()[-2:] == [
    "--gin.MODEL_DIR='a b/c'",
    "--gin.DATA_DIR='/data'",
  ]
  elsewhere = call(checkout, *arguments, cwd=tmp_path).stdout.splitlines()
  assert elsewhere[-2:] == [f"--gin.MODEL_DIR='{tmp_path}/a b/c'", "--gin.DATA_DIR='/data'"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("--size=huge", "there is no gin/size/huge.gin; choose one of base large mini small tiny xl"),
    ("--system=fine --size=xl", "there is no gin/size/fine/xl.gin; choose one of base tiny"),
    ("--vocals=clean --system=fine", "--vocals=clean: --system=fine has no vocals"),
    ("--system=fine --semantics=logmel", "--semantics=logmel: --system=fine has no semantics"),
    ("--codec=mp3", "there is no gin/codec/mp3.gin; choose one of dac_16khz encodec_24khz mdct"),
    ("--model_dir=it's", "must not contain a quote"),
    ("--model_dir=", "a path is empty"),
  ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_installed(checkout, arguments, message):
  shutil.rmtree(checkout / ".venv")
  result = call(checkout, *arguments.split())
  assert result.returncode == 2
  assert message in result.stderr
  assert not (checkout / ".venv").exists()


def test_the_demo_is_six_commands(checkout):
  result = call(checkout)
  assert result.returncode == 0, result.stderr
  modules = [
    after for before, after in zip(result.stdout.split(), result.stdout.split()[1:]) if before == "-m"
  ]
  assert modules == [
    "data_pipelines.synthesize",
    "data_pipelines.synthesize",
    "data_pipelines.prepare",
    "singsong_jax.train",
    "singsong_jax.train",
    "singsong_jax.infer",
  ]
  assert call(checkout, "--fresh", "--seed=1").returncode == 2
