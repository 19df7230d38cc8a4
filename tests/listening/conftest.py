"""A small study, and its server as a process of its own."""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from singsong_jax.evaluation.clips import Mixes, find_clips
from singsong_jax.listening.making import Sources, make_study
from singsong_jax.listening.trials import Settings

RATE_HZ = 16_000
SYSTEMS = ("truth", "ours", "random")

# The browser's file fails where Chromium is missing; only this leaves it out.
collect_ignore = ["test_browser.py"] if os.environ.get("SINGSONG_NO_BROWSER") == "1" else []


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
  """Six vocals of 4 s, and instrumentals of three systems."""
  root = tmp_path_factory.mktemp("clips")
  rng = np.random.default_rng(0)
  time = np.arange(4 * RATE_HZ) / RATE_HZ
  for folder in ("vocals", *SYSTEMS):
    (root / folder).mkdir()
    for index in range(6):
      tone = 0.2 * np.sin(2 * np.pi * rng.uniform(200, 800) * time)
      soundfile.write(root / folder / f"song {index}.wav", tone, RATE_HZ)
  return root


@pytest.fixture(scope="session")
def sources(folders):
  vocals = find_clips(folders / "vocals")
  systems = {name: Mixes.pair(vocals, find_clips(folders / name), name) for name in SYSTEMS}
  return Sources(vocals=vocals, systems=systems, reference="truth", rate_hz=RATE_HZ)


@pytest.fixture(scope="session")
def make(tmp_path_factory, sources):
  """Makes a study in a new folder: keyword arguments are its settings."""

  def made(per_pair=None, seed=0, **settings):
    folder = tmp_path_factory.mktemp("study")
    settings = {"trials_per_rater": 4, "checks_per_rater": 2, "listen_seconds": 0.5} | settings
    return folder, make_study(folder, sources, Settings(**settings), seed, per_pair)

  return made


@dataclasses.dataclass
class Server:
  """A server that runs: its address, the admin's token, and what it needs to be killed."""

  process: subprocess.Popen
  url: str
  token: str

  @property
  def port(self) -> int:
    return int(self.url.rsplit(":", 1)[1])

  def kill(self) -> None:
    self.process.send_signal(signal.SIGKILL)
    self.process.wait()
    self.process.stdout.close()


@pytest.fixture(scope="module")
def serve():
  """Starts servers, and kills those that still run at the end."""
  with contextlib.ExitStack() as stack:

    def served(folder: pathlib.Path, port: int = 0) -> Server:
      command = [sys.executable, "-m", "singsong_jax.study", "serve", str(folder), f"--port={port}"]
      process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
      url = re.search(r"http://\S+:\d+", process.stdout.readline()).group()
      token = re.search(r"Bearer ([\w-]+)", process.stdout.readline()).group(1)
      server = Server(process, url, token)
      stack.callback(lambda: process.poll() is None and server.kill())
      return server

    yield served
