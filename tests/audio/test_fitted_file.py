"""The npz container of fitted tokenizers: round trip, fingerprint, bad files."""

import dataclasses
import json

import numpy as np
import pytest

from singsong_jax.audio import fitted_file
from singsong_jax.errors import InputError


@pytest.fixture
def file():
  arrays = {"table": np.arange(6, dtype=np.float16).reshape(2, 3)}
  return fitted_file.FittedFile(kind="toy", settings={"rate": 7}, source={"clips": 2}, arrays=arrays)


def test_round_trip(file, tmp_path):
  file.save(tmp_path / "deep" / "a.npz")
  loaded = fitted_file.load_fitted_file(tmp_path / "deep" / "a.npz")
  assert (loaded.kind, loaded.settings, loaded.source) == ("toy", {"rate": 7}, {"clips": 2})
  np.testing.assert_array_equal(loaded.arrays["table"], file.arrays["table"])
  assert loaded.arrays["table"].dtype == np.float16
  assert loaded.fingerprint() == file.fingerprint()


def test_equal_content_gives_equal_bytes(file, tmp_path):
  for name in ("a.npz", "b.npz"):
    file.save(tmp_path / name)
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_fingerprint_covers_content_not_source(file):
  changed = {
    "kind": dataclasses.replace(file, kind="other"),
    "settings": dataclasses.replace(file, settings={"rate": 8}),
    "values": dataclasses.replace(file, arrays={"table": file.arrays["table"] + np.float16(1)}),
    "shape": dataclasses.replace(file, arrays={"table": file.arrays["table"].reshape(3, 2)}),
    "name": dataclasses.replace(file, arrays={"board": file.arrays["table"]}),
  }
  fingerprints = {file.fingerprint()} | {f.fingerprint() for f in changed.values()}
  assert len(fingerprints) == 1 + len(changed)
  assert dataclasses.replace(file, source={}).fingerprint() == file.fingerprint()


def _cut(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)


def _single_array(path):
  with path.open("wb") as stream:
    np.save(stream, np.zeros(3))


def _with_metadata(value):
  encoded = np.frombuffer(json.dumps(value).encode(), np.uint8)
  return lambda path: np.savez(path, metadata=encoded)


BREAKERS = {
  "does not exist": lambda path: path.unlink(),
  "not a readable npz": _cut,
  "is not a readable npz file": lambda path: path.write_text("RIFF, a wave file"),
  "not a readable": lambda path: path.write_bytes(b""),
  "single array": _single_array,
  "without metadata": lambda path: np.savez(path, a=np.zeros(3)),
  "not JSON": lambda path: np.savez(path, metadata=np.zeros(3, np.uint8)),
  "lack one of": _with_metadata({"kind": "toy"}),
  "format version 99": _with_metadata({"kind": "toy", "version": 99, "settings": {}, "source": {}}),
}


@pytest.mark.parametrize("message", BREAKERS)
def test_bad_files_are_named(message, file, tmp_path):
  path = tmp_path / "a.npz"
  file.save(path)
  BREAKERS[message](path)
  with pytest.raises(InputError, match=message) as caught:
    fitted_file.load_fitted_file(path)
  assert str(path) in str(caught.value)


def test_a_flipped_byte_is_noticed(file, tmp_path):
  file = dataclasses.replace(file, arrays={"table": np.random.default_rng(0).bytes(4096)})
  file = dataclasses.replace(file, arrays={"table": np.frombuffer(file.arrays["table"], np.uint8)})
  path = tmp_path / "a.npz"
  file.save(path)
  _flip(path)
  with pytest.raises(InputError, match="not a readable"):
    fitted_file.load_fitted_file(path)


def test_another_kind_and_damaged_content(file, tmp_path):
  path = tmp_path / "a.npz"
  file.save(path)
  with pytest.raises(InputError, match="holds 'toy', not a codec; expected one of mdct"):
    fitted_file.load_kind(path, {"mdct": "singsong_jax.codecs.mdct:MdctCodec"}, "codec")
  with pytest.raises(InputError, match="damaged 'toy' file"):
    fitted_file.load_kind(path, {"toy": "singsong_jax.codecs.mdct:MdctCodec"}, "codec")
