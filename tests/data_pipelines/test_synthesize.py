"""The command itself; what it writes is tested in tests/audio/synthesis/test_corpus.py."""

import subprocess
import sys

import pytest


def run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "data_pipelines.synthesize", *arguments], capture_output=True, text=True
  )


@pytest.mark.slow
def test_the_command(tmp_path):
  flags = (f"--output_dir={tmp_path}", "--num_songs=2", "--song_seconds=1", "--num_processes=2")
  made = run(*flags)
  assert made.returncode == 0 and "2 songs, 2 made now" in made.stdout, made.stderr
  assert "2/2" in made.stderr  # the progress bar
  again = run(*flags)
  assert again.returncode == 0 and "already there" in again.stdout and not again.stderr
  other = run(*flags, "--seed=1")
  assert other.returncode == 2 and other.stderr.startswith("error: ") and "--fresh" in other.stderr
  assert other.stderr.count("\n") == 1
  fresh = run(*flags, "--seed=1", "--fresh")
  assert fresh.returncode == 0 and "2 made now" in fresh.stdout
