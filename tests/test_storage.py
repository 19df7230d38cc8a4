"""singsong_jax/storage.py: the same for paths and addresses."""

import hashlib
import os

import pytest

from singsong_jax import storage
from singsong_jax.errors import InputError


@pytest.fixture(params=["path", "address"])
def root(request, tmp_path):
  """A place that is empty before and after."""
  if request.param == "path":
    yield str(tmp_path)
    return
  place = f"ram://{tmp_path.name}"
  yield place
  storage.remove(place)


def test_what_is_written_can_be_read_listed_and_removed(root):
  assert storage.names(root) == [] and not storage.exists(f"{root}/a/b.json")
  storage.write_json(f"{root}/a/b.json", {"b": [1, "é"]})
  storage.write_json(f"{root}/a/b.json", {"b": 2})  # in its place
  storage.write_text(f"{root}/a/c/d.txt", "1\n2\n")
  assert storage.read_json(f"{root}/a/b.json") == {"b": 2}
  assert storage.read_lines(f"{root}/a/c/d.txt") == ["1", "2"]
  assert storage.names(f"{root}/a") == ["b.json", "c"]
  assert sorted(storage.walk(root)) == ["a/b.json", "a/c/d.txt"]
  assert storage.size(f"{root}/a/c/d.txt") == 4
  assert storage.sha256(f"{root}/a/c/d.txt") == hashlib.sha256(b"1\n2\n").hexdigest()
  storage.remove(f"{root}/a/b.json")
  assert storage.exists(f"{root}/a") and not storage.exists(f"{root}/a/b.json")
  storage.remove(f"{root}/a")
  storage.remove(f"{root}/a")  # again
  assert list(storage.walk(root)) == []


def test_a_failed_write_leaves_nothing(root):
  storage.write_text(f"{root}/kept.txt", "before")
  with pytest.raises(RuntimeError), storage.replacing(f"{root}/kept.txt") as temporary:
    temporary.write_text("half")
    raise RuntimeError
  assert storage.names(root) == ["kept.txt"] and storage.read_lines(f"{root}/kept.txt") == ["before"]


def test_what_is_missing_is_named(root):
  for read in (storage.read_json, storage.read_lines, storage.size, storage.sha256):
    with pytest.raises(InputError, match=r"no\.json"):
      read(f"{root}/no.json")


def test_linked_folders_are_walked_once_and_links_to_nothing_are_files(tmp_path):
  (tmp_path / "music" / "album").mkdir(parents=True)
  (tmp_path / "elsewhere").mkdir()
  (tmp_path / "elsewhere" / "a.wav").touch()
  (tmp_path / "music" / "linked").symlink_to(tmp_path / "elsewhere")
  (tmp_path / "music" / "album" / "up").symlink_to(tmp_path / "music")  # a circle
  (tmp_path / "music" / "gone.wav").symlink_to(tmp_path / "nothing.wav")
  assert sorted(storage.walk(tmp_path / "music")) == ["gone.wav", "linked/a.wav"]


def test_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert storage.absolute("a/../b") == os.path.join(os.path.realpath(tmp_path), "b")
  assert storage.absolute("gs://bucket/folder/") == "gs://bucket/folder"


def test_one_process_at_a_time(tmp_path):
  with storage.locked(tmp_path / "new"), pytest.raises(InputError, match="is in use by process"):
    with storage.locked(tmp_path / "new"):
      pass
  with storage.locked("ram://bucket"), storage.locked("ram://bucket"):
    pass  # a bucket has no locks
