"""One process or several, killed or not, here or in a bucket: the same records."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from data_pipelines import job, stages, workers
from data_pipelines.settings import Settings
from data_pipelines.sources.base import find_songs
from singsong_jax import storage
from singsong_jax.errors import InputError

ROOT = pathlib.Path(job.__file__).parent.parent
NUM_SONGS = 12


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  """An MDX-Net that halves what it hears."""
  onnx = pytest.importorskip("onnx")
  helper, numpy_helper = onnx.helper, onnx.numpy_helper
  shape = ("batch", 4, 3_073, 16)
  values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
  half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
  graph = helper.make_graph(
    [helper.make_node("Mul", ["x", "half"], ["y"])], "mdx", values[:1], values[1:], [half]
  )
  path = tmp_path_factory.mktemp("mdx") / "vocals.onnx"
  onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
  return path


@pytest.fixture(scope="module")
def plain_songs(tmp_path_factory):
  """Twelve songs of three clips, and one that is none."""
  folder = tmp_path_factory.mktemp("songs")
  for index in range(NUM_SONGS):
    waveform = np.random.default_rng(index).uniform(-0.4, 0.4, 140_000)
    soundfile.write(folder / f"{index:02d}.flac", waveform, 44_100)
  (folder / "bad.flac").write_text("bad")
  return folder


@pytest.fixture
def command(plain_songs, tokenizers, network):
  """The job as a command, with the real separator."""

  def make(output, *flags):
    settings = {
      "songs": plain_songs,
      "output_dir": output,
      "separator": f"mdx:{network}",
      "codec": tokenizers[0],
      "semantics": tokenizers[1],
      "window_seconds": 1.0,
      "noise_draws": 2,
      "num_shards": 2,
    }
    return [
      sys.executable,
      "-m",
      "data_pipelines.prepare",
      *(f"--{k}={v}" for k, v in settings.items()),
      *flags,
    ]

  return make


def finish(command):
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert f"songs: {NUM_SONGS + 1} found, {NUM_SONGS} used, 1 in dead_letter.jsonl" in done.stdout
  return done


@pytest.mark.slow
def test_two_processes_make_the_same_files(command, tmp_path, contents):
  finish(command(tmp_path / "one", "--num_workers=1"))
  done = finish(command(tmp_path / "two", "--num_workers=2"))
  assert contents(tmp_path / "one") == contents(tmp_path / "two")
  assert "separating: 100%" in done.stderr and "tokenising: 100%" in done.stderr  # though others do the work


@pytest.mark.slow
def test_two_processes_survive_sigkill(command, tmp_path, contents):
  killed, whole = tmp_path / "killed", tmp_path / "whole"
  with subprocess.Popen(command(killed, "--num_workers=2"), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
    while process.poll() is None and len(list(killed.glob("clips/*/*.json"))) < 4:
      time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # its workers are left to themselves
  assert not (killed / "manifest.json").exists()
  finish(command(killed, "--num_workers=2"))
  finish(command(whole, "--num_workers=1"))
  assert contents(killed) == contents(whole)


@pytest.mark.slow
def test_the_death_of_a_worker_ends_the_job(command, tmp_path):
  """Beam's own runner would wait for it for ever."""
  with subprocess.Popen(
    command(tmp_path, "--num_workers=2"), cwd=ROOT, stderr=subprocess.PIPE, text=True
  ) as process:
    while process.poll() is None and len(list(tmp_path.glob("clips/*/*.json"))) < 2:
      time.sleep(0.01)
    try:
      os.kill(worker_of(process.pid), signal.SIGKILL)
      _, errors = process.communicate(timeout=300)
    finally:
      process.kill()
  assert process.returncode == 2
  assert "error: a worker process ended with status -9" in errors
  assert not (tmp_path / "manifest.json").exists()
  finish(command(tmp_path, "--num_workers=2"))


def worker_of(pid):
  """A process that Beam started for this one. Read where Linux lists them."""
  for path in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):  # those that have ended meanwhile
      parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
      if parent == pid and b"sdk_worker_main" in (path / "cmdline").read_bytes():
        return int(path.name)
  raise AssertionError(f"{pid} has no workers")


def test_a_bucket_gets_the_same_files(songs, settings, separator, tmp_path, replace):
  """All of a job at addresses: songs, output, tokenisers, exclusion list."""
  (tmp_path / "list.txt").write_text("# nothing with this name\nnobody\n")
  place = f"ram://{tmp_path.name}"
  try:
    for path in storage.walk(songs):
      with storage.replacing(f"{place}/songs/{path}") as temporary:
        temporary.write_bytes((songs / path).read_bytes())
    with storage.replacing(f"{place}/list.txt") as temporary:
      temporary.write_bytes((tmp_path / "list.txt").read_bytes())
    here = job.prepare(
      settings=replace(settings, exclude=str(tmp_path / "list.txt")),
      songs=str(songs),
      output_dir=str(tmp_path / "out"),
    )
    there = job.prepare(
      settings=replace(settings, exclude=f"{place}/list.txt"),
      songs=f"{place}/songs",
      output_dir=f"{place}/out",
    )
    assert {**here, "job": None} == {**there, "job": None}  # a bucket's songs are known by name and size
    names = [name for name in storage.names(f"{place}/out/tokens") if "-of-" in name]
    assert len(names) == 6
    for name in names:
      with storage.local(f"{place}/out/tokens/{name}") as copy:
        assert copy.read_bytes() == (tmp_path / "out" / "tokens" / name).read_bytes()
    again = job.prepare(
      settings=replace(settings, exclude=f"{place}/list.txt"),
      songs=f"{place}/songs",
      output_dir=f"{place}/out",
    )
    assert again == there
  finally:
    storage.remove(place)


@pytest.mark.parametrize(
  ("number", "work_seconds", "elements", "expected"),
  [
    (0, 30, 100, 1),  # not worth a second process
    (0, 10_000, 100, 8),  # all cores
    (0, 130, 100, 3),
    (0, 10_000, 3, 3),  # nothing for a fourth to do
    (5, 1, 100, 5),  # the user's wish
    (5, 1, 2, 2),
  ],
)
def test_how_many_processes(monkeypatch, number, work_seconds, elements, expected):
  monkeypatch.setattr(workers, "cores", lambda: 8)
  assert workers.Workers(number=number).processes(lambda: work_seconds, elements) == expected


def test_the_work_is_judged_by_the_songs_lengths(plain_songs):
  """Twelve songs of 140,000 samples and one that cannot be read: REPET does 16 seconds in one, networks 2."""
  songs = find_songs(str(plain_songs)).songs
  seconds = 13 * 140_000 / 44_100
  assert stages.separating_seconds(Settings(), songs) == pytest.approx(seconds / 16)
  assert stages.separating_seconds(Settings(separator="mdx:x.onnx,overlap=0.5"), songs) == pytest.approx(
    seconds / 2
  )


def test_beam_decides_when_asked_to():
  asked = workers.Workers(beam_options=("--runner=DataflowRunner",))
  assert asked.chosen_by_beam and asked.processes(lambda: 1e9, 1_000) == 1 and not asked.in_this_process(1)
  with pytest.raises(InputError, match="--num_workers is for this machine"):
    workers.Workers(number=2, beam_options=("--runner=DataflowRunner",))
  with pytest.raises(InputError, match="num_workers is -1"):
    workers.Workers(number=-1)
