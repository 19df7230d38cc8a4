"""tasks/schema.py."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from singsong_jax.errors import InputError
from tasks.schema import RecordSchema, read_records, shard_paths, write_records


def edit(serialized: bytes, name: str, values, kind="int64_list") -> bytes:
  """A record with one field replaced, or removed where `values` is None."""
  example = tf.train.Example.FromString(serialized)
  del example.features.feature[name]
  if values is not None:
    getattr(example.features.feature[name], kind).value.extend(values)
  return example.SerializeToString()


def test_lengths_of_the_papers_geometry():
  lengths = {name: field.length for name, field in RecordSchema(num_noise_draws=5).fields.items()}
  assert lengths["vocals_semantic_clean"] == lengths["instrumental_semantic"] == 250
  assert lengths["vocals_acoustic_clean"] == lengths["instrumental_acoustic"] == 500 * 12
  assert lengths["vocals_semantic_noisy"] == 5 * 250
  assert lengths["vocals_acoustic_noisy"] == 5 * 500 * 12


def test_what_is_written_is_what_is_read(schema, make_record):
  record = make_record(7)
  parsed = tf.io.parse_single_example(schema.to_example(record), schema.feature_description)
  assert parsed.keys() == schema.fields.keys()
  assert parsed["schema_version"] == 1 and parsed["num_noise_draws"] == 4
  assert parsed["clip_id"] == b"song_7.wav@0"
  for name, value in record.items():
    if isinstance(value, np.ndarray):
      np.testing.assert_array_equal(parsed[name], value)


def test_arrays_are_flattened_level_fastest_then_frame_then_draw(schema, make_record):
  codes = np.arange(4 * 20 * 12).reshape(4, 20, 12) % 1024
  example = schema.to_example(make_record(0) | {"vocals_acoustic_noisy": codes})
  flat = tf.io.parse_single_example(example, schema.feature_description)["vocals_acoustic_noisy"]
  assert flat[(2 * 20 + 3) * 12 + 5] == codes[2, 3, 5]


def test_description_round_trip(schema):
  assert RecordSchema.from_description(schema.describe()) == schema


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"instrumental_semantic": np.full(10, 1024)}, r"instrumental_semantic\[0\] is 1024, outside 0 … 1023"),
    ({"instrumental_semantic": np.zeros(9)}, "has 9 values, expected 10"),
    ({"instrumental_semantic": None}, "'instrumental_semantic' is missing"),
    ({"tempo": 120}, "unknown fields in a record: tempo"),
  ],
)
def test_a_wrong_record_is_not_written(schema, make_record, change, message):
  record = make_record(0) | change
  if change.get("instrumental_semantic", 0) is not None and "instrumental_semantic" in change:
    record["instrumental_semantic"] = record["instrumental_semantic"].astype(int)
  with pytest.raises(InputError, match=message):
    schema.to_example(record)


@pytest.mark.parametrize(
  ("name", "values", "kind", "message"),
  [
    ("schema_version", [2], "int64_list", "schema_version is 2, this program reads 1"),
    ("schema_version", None, None, "schema_version is None"),
    ("song_id", None, None, "field 'song_id' is missing"),
    ("song_id", [1.0], "float_list", "field 'song_id' holds float_list, expected bytes_list"),
    ("instrumental_semantic", [0] * 9, "int64_list", "'instrumental_semantic' has 9 values, expected 10"),
    ("vocals_acoustic_clean", [0] * 239 + [-1], "int64_list", r"vocals_acoustic_clean\[239\] is -1"),
    ("vocals_semantic_noisy", [3, 1024] + [0] * 38, "int64_list", r"\[1\] is 1024, outside 0 … 1023"),
  ],
)
def test_the_checker_names_file_record_clip_and_value(
  tmp_path, schema, make_record, name, values, kind, message
):
  good = [schema.to_example(make_record(i)) for i in range(3)]
  path = tmp_path / "train.tfrecord-00000-of-00001"
  write_records(path, [good[0], good[1], edit(good[2], name, values, kind)])
  expected = rf"{re.escape(str(path))}: record 2 \(clip 'song_2.wav@0'\): .*{message}.*--fresh"
  with pytest.raises(InputError, match=expected):
    schema.check_files([path])


def test_the_checker_accepts_good_files(tmp_path, schema, make_record):
  path = tmp_path / "a"
  assert write_records(path, [schema.to_example(make_record(i)) for i in range(3)]) == 3
  schema.check_files([path, path])


def test_not_an_example(tmp_path, schema):
  write_records(tmp_path / "a", [b"\xff\xff garbage"])
  with pytest.raises(InputError, match=r"a: record 0 is not a tf\.train\.Example"):
    schema.check_files([tmp_path / "a"])


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_file_is_named_with_the_record(tmp_path, schema, make_record, damage):
  path = tmp_path / "a"
  write_records(path, [schema.to_example(make_record(i)) for i in range(3)])
  content = bytearray(path.read_bytes())
  if damage == "truncate":
    content = content[:-10]
  else:
    content[-20] ^= 1
  path.write_bytes(content)
  with pytest.raises(InputError, match="a: record 2 is truncated or damaged"):
    schema.check_files([path])


def test_a_missing_file(tmp_path):
  with pytest.raises(InputError, match="nowhere does not exist"):
    list(read_records(tmp_path / "nowhere"))


def test_nothing_half_written(tmp_path, schema, make_record):
  def records():
    yield schema.to_example(make_record(0))
    raise RuntimeError("killed")

  with pytest.raises(RuntimeError, match="killed"):
    write_records(tmp_path / "a", records())
  assert not list(tmp_path.iterdir())


def test_shard_names(tmp_path):
  names = [pathlib.Path(path).name for path in shard_paths(tmp_path, "train", 2)]
  assert names == ["train.tfrecord-00000-of-00002", "train.tfrecord-00001-of-00002"]
