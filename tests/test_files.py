"""Atomic writes."""

import errno
import subprocess
import sys

import pytest

from singsong_jax import files
from singsong_jax.cli import ROOT
from singsong_jax.errors import InputError


def test_the_target_appears_whole_and_alone(tmp_path):
  target = tmp_path / "new" / "x.json"
  files.write_json(target, {"b": 1, "a": [2]})
  assert files.read_json(target) == {"a": [2], "b": 1}
  assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path):
  target = tmp_path / "x.txt"
  target.write_text("old")
  with pytest.raises(RuntimeError), files.replacing(target) as temporary:
    temporary.write_text("half of the n")
    raise RuntimeError
  assert target.read_text() == "old"
  assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_input_error_that_names_the_file(tmp_path):
  with pytest.raises(InputError, match=r"cannot write .*x\.wav: No space left"):
    with files.replacing(tmp_path / "x.wav") as temporary:
      temporary.write_text("half")
      raise OSError(errno.ENOSPC, "No space left on device")
  assert list(tmp_path.iterdir()) == []


def test_the_temporary_keeps_the_suffix(tmp_path):
  with files.replacing(tmp_path / "x.wav") as temporary:
    assert temporary.suffix == ".wav"
    temporary.touch()


def test_broken_json_is_named(tmp_path):
  (tmp_path / "x.json").write_text("{")
  with pytest.raises(InputError, match=r"x\.json is not JSON"):
    files.read_json(tmp_path / "x.json")
  with pytest.raises(InputError, match="cannot read"):
    files.read_json(tmp_path / "missing.json")


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path):
  program = (
    "import sys, time; from singsong_jax import files\n"
    f"with files.locked({str(tmp_path)!r}): print('locked', flush=True); time.sleep(60)"
  )
  with subprocess.Popen(
    [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
  ) as process:
    process.stdout.readline()
    with pytest.raises(InputError, match=f"in use by process {process.pid} on "), files.locked(tmp_path):
      pass
    process.kill()
  with files.locked(tmp_path):
    pass
  with pytest.raises(InputError, match="cannot write"), files.locked(tmp_path / "nowhere"):
    pass
