"""What a killed run left is used by the same run, and by no other."""

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.inference.token_store import FolderStore


def test_arrays_come_back(tmp_path, capsys):
  store = FolderStore(tmp_path / "work", {"seed": 1})
  assert "a" not in store
  store["a"] = np.arange(6, dtype=np.int16).reshape(2, 3)
  again = FolderStore(tmp_path / "work", {"seed": 1})
  np.testing.assert_array_equal(again["a"], [[0, 1, 2], [3, 4, 5]])
  assert again["a"].dtype == np.int16
  assert capsys.readouterr().err == f"going on with what an earlier run left in {tmp_path / 'work'}\n"
  again.delete()
  assert not list(tmp_path.iterdir())


def test_another_setting_starts_over_and_says_which(tmp_path, capsys):
  FolderStore(tmp_path / "work", {"seed": 1, "sampling": {"greedy": True}, "x": (1, 2)})["a"] = np.ones(3)
  store = FolderStore(tmp_path / "work", {"seed": 2, "sampling": {"greedy": False}, "x": [1, 2]})
  assert "a" not in store
  said = capsys.readouterr().err
  assert said.count("\n") == 1
  assert "starting over" in said and said.rstrip().endswith("another sampling, seed")


def test_leftovers_without_settings_are_dropped(tmp_path):
  (tmp_path / "work").mkdir()
  np.save(tmp_path / "work" / "a.npy", np.ones(3))
  assert "a" not in FolderStore(tmp_path / "work", {"seed": 1})


def test_a_damaged_array_is_named(tmp_path):
  store = FolderStore(tmp_path / "work", {})
  (tmp_path / "work" / "a.npy").write_bytes(b"\x93NUMPY")
  with pytest.raises(InputError, match=r"a\.npy"):
    store["a"]


def test_a_folder_that_cannot_be_is_an_input_error(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(InputError, match="file"):
    FolderStore(tmp_path / "file" / "work", {})
