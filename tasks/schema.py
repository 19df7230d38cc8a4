"""The token records: one definition for writing, reading and checking them.

    tokens/{train,validation,test}.tfrecord-SSSSS-of-NNNNN, each record a tf.train.Example of one clip
    manifest.json                                           which sizes the records have

With the paper's geometry and R noisy draws (`docs/data.md` has the table):

    schema_version  clip_id  song_id  offset_seconds  num_noise_draws
    vocals_semantic_clean  [250]       vocals_acoustic_clean  [500·12]
    vocals_semantic_noisy  [R·250]     vocals_acoustic_noisy  [R·500·12]
    instrumental_semantic  [250]       instrumental_acoustic  [500·12]
    vocals_peak_rms_db  instrumental_peak_rms_db

Codes are flat, level fastest, then frame, then draw. All 12 levels are kept, for a fine stage.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from singsong_jax import storage
from singsong_jax.errors import InputError
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry

VERSION = 1
SPLITS = ("train", "validation", "test")
_FIX = "make the data again with `python -m data_pipelines.prepare --fresh`"
_LISTS = {"int64": "int64_list", "float32": "float_list", "string": "bytes_list"}


class Field(NamedTuple):
  """One feature: `length` values of `dtype`; integers in `0 … limit - 1` where `limit` is given."""

  dtype: str
  length: int = 1
  limit: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordSchema:
  """Sizes of everything in a record."""

  vocabulary: Vocabulary = Vocabulary()
  geometry: Geometry = Geometry()
  num_noise_draws: int = 4

  @functools.cached_property
  def fields(self) -> dict[str, Field]:
    """Every field of a record, by name."""
    geometry, draws = self.geometry, self.num_noise_draws
    semantic = Field("int64", geometry.semantic_frames, self.vocabulary.num_semantic_codes)
    acoustic_length = geometry.acoustic_frames * geometry.num_acoustic_levels
    acoustic = Field("int64", acoustic_length, self.vocabulary.num_acoustic_codes)
    return {
      "schema_version": Field("int64"),
      "clip_id": Field("string"),
      "song_id": Field("string"),
      "offset_seconds": Field("float32"),
      "num_noise_draws": Field("int64"),
      "vocals_semantic_clean": semantic,
      "vocals_semantic_noisy": semantic._replace(length=draws * semantic.length),
      "vocals_acoustic_clean": acoustic,
      "vocals_acoustic_noisy": acoustic._replace(length=draws * acoustic.length),
      "instrumental_semantic": semantic,
      "instrumental_acoustic": acoustic,
      "vocals_peak_rms_db": Field("float32"),
      "instrumental_peak_rms_db": Field("float32"),
    }

  @property
  def feature_description(self) -> dict[str, tf.io.FixedLenFeature]:
    """For `tf.io.parse_single_example`; scalars have shape []."""
    return {
      name: tf.io.FixedLenFeature([] if field.length == 1 else [field.length], field.dtype)
      for name, field in self.fields.items()
    }

  def to_example(self, record: Mapping[str, Any]) -> bytes:
    """Serialises one record. `schema_version` and `num_noise_draws` are filled in.

    Args:
      record: the other fields; arrays of any shape with the right number of values.

    Raises:
      InputError: a field is missing, unknown, of the wrong length or out of range.
    """
    record = {**record, "schema_version": VERSION, "num_noise_draws": self.num_noise_draws}
    if unknown := record.keys() - self.fields.keys():
      raise InputError(f"unknown fields in a record: {', '.join(sorted(unknown))}")
    features = {name: _to_feature(field, record.get(name)) for name, field in self.fields.items()}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    if fault := self.fault(example):
      raise InputError(f"clip {_clip_id(example)!r}: {fault}")
    return example.SerializeToString(deterministic=True)

  def fault(self, example: tf.train.Example) -> str | None:
    """What is wrong with a record, or None."""
    if (version := _version(example)) != VERSION:
      return f"schema_version is {version}, this program reads {VERSION}"
    for name, field in self.fields.items():
      if fault := _field_fault(name, field, example.features.feature.get(name)):
        return fault
    return None

  def check_files(self, paths: Iterable[str | os.PathLike]) -> None:
    """Reads every record of `paths`.

    Raises:
      InputError: the first fault, with file, record number, clip, field and value.
    """
    for path in paths:
      for number, serialized in enumerate(read_records(path)):
        self._check_record(f"{path}: record {number}", serialized)

  def _check_record(self, where: str, serialized: bytes) -> None:
    try:
      example = tf.train.Example.FromString(serialized)
    except Exception as error:  # protobuf's DecodeError has no stable import path
      raise InputError(f"{where} is not a tf.train.Example ({error}); {_FIX}") from error
    if fault := self.fault(example):
      raise InputError(f"{where} (clip {_clip_id(example)!r}): {fault}; {_FIX}")

  def describe(self) -> dict[str, Any]:
    """As JSON, for the manifest."""
    return dataclasses.asdict(self)

  @classmethod
  def from_description(cls, description: Mapping[str, Any]) -> "RecordSchema":
    """Inverse of `describe`. Raises KeyError, TypeError or ValueError when it is not one."""
    return cls(
      vocabulary=Vocabulary(**description["vocabulary"]),
      geometry=Geometry(**description["geometry"]),
      num_noise_draws=description["num_noise_draws"],
    )


def read_records(path: str | os.PathLike) -> Iterator[bytes]:
  """Yields the serialised records of a TFRecord file.

  Raises:
    InputError: the file is missing, or damaged from some record on (truncated, bad checksum).
  """
  number = 0
  try:
    for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      yield serialized
      number += 1
  except tf.errors.NotFoundError as error:
    raise InputError(f"{path} does not exist; {_FIX}") from error
  except tf.errors.OpError as error:
    raise InputError(f"{path}: record {number} is truncated or damaged ({error.message}); {_FIX}") from error


def write_records(path: str | os.PathLike, records: Iterable[bytes]) -> int:
  """Writes a TFRecord file in one rename and returns the number of records read back from it."""
  with storage.replacing(path) as temporary:
    try:
      with tf.io.TFRecordWriter(str(temporary)) as writer:
        for record in records:
          writer.write(record)
    except tf.errors.OpError as error:  # TensorFlow's own name for a full disk
      raise InputError(f"cannot write {path}: {error.message}") from error
  return sum(1 for _ in read_records(path))


def split_of_song(song_id: str, validation_fraction: float, test_fraction: float) -> str:
  """By hash of the id: a song keeps its split when others are added or removed."""
  digest = hashlib.sha256(f"split/{song_id}".encode()).hexdigest()
  position = int(digest[:8], 16) / 16**8  # 0 ≤ position < 1
  if position < test_fraction:
    return "test"
  return "validation" if position < test_fraction + validation_fraction else "train"


def shard_paths(data_dir: str | os.PathLike, split: str, num_shards: int) -> list[str]:
  """The files of one split, in order."""
  folder = f"{os.fspath(data_dir).rstrip('/')}/tokens"
  return [f"{folder}/{split}.tfrecord-{index:05d}-of-{num_shards:05d}" for index in range(num_shards)]


def _to_feature(field: Field, value: Any) -> tf.train.Feature:
  if value is None:
    return tf.train.Feature()
  if field.dtype == "string":
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
  flat = np.ravel(value)
  if field.dtype == "float32":
    return tf.train.Feature(float_list=tf.train.FloatList(value=flat))
  return tf.train.Feature(int64_list=tf.train.Int64List(value=flat))


def _field_fault(name: str, field: Field, feature: tf.train.Feature | None) -> str | None:
  kind = feature.WhichOneof("kind") if feature is not None else None
  if kind is None:
    return f"field {name!r} is missing"
  if kind != _LISTS[field.dtype]:
    return f"field {name!r} holds {kind}, expected {_LISTS[field.dtype]}"
  values = getattr(feature, kind).value
  if len(values) != field.length:
    return f"field {name!r} has {len(values)} values, expected {field.length}"
  return _range_fault(name, field, np.asarray(values)) if field.limit is not None else None


def _range_fault(name: str, field: Field, codes: np.ndarray) -> str | None:
  wrong = np.flatnonzero((codes < 0) | (codes >= field.limit))
  if not len(wrong):
    return None
  return f"{name}[{wrong[0]}] is {codes[wrong[0]]}, outside 0 … {field.limit - 1}"


def _clip_id(example: tf.train.Example) -> str:
  values = example.features.feature["clip_id"].bytes_list.value
  return values[0].decode(errors="replace") if values else "?"


def _version(example: tf.train.Example) -> int | None:
  values = example.features.feature["schema_version"].int64_list.value
  return values[0] if values else None
