"""A small data directory made of random codes: the vocabulary is the real one, the clips 0.4 s."""

import json

import numpy as np
import pytest

from singsong_jax.tokens.windows import Geometry
from tasks.schema import RecordSchema, shard_paths, write_records

GEOMETRY = Geometry(window_seconds=0.4)  # 10 semantic frames, 20 acoustic frames × 12 levels
SCHEMA = RecordSchema(geometry=GEOMETRY, num_noise_draws=4)
NUM_RECORDS = {"train": 10, "validation": 3, "test": 0}


def random_record(index: int, schema: RecordSchema = SCHEMA) -> dict:
  rng = np.random.default_rng(index)
  record = {
    "clip_id": f"song_{index}.wav@0",
    "song_id": f"song_{index}.wav",
    "offset_seconds": 0.0,
    "vocals_peak_rms_db": -20.0,
    "instrumental_peak_rms_db": -15.0,
  }
  for name, field in schema.fields.items():
    if field.limit:
      record[name] = rng.integers(0, field.limit, field.length)
  return record


def write_data_dir(folder, num_records=NUM_RECORDS, seed=0, num_shards=2, schema=SCHEMA, tokenizers="c"):
  for split_index, (split, count) in enumerate(num_records.items()):
    first = 1000 * seed + 100 * split_index
    examples = [schema.to_example(random_record(first + i, schema)) for i in range(count)]
    for shard, path in enumerate(shard_paths(folder, split, num_shards)):
      write_records(path, examples[shard::num_shards])
  splits = {split: {"records": count, "shards": num_shards} for split, count in num_records.items()}
  manifest = {"schema": schema.describe(), "splits": splits, "seed": seed}
  prints = {"codec": tokenizers, "semantics": "s"}
  manifest["tokenizers"] = {part: {"name": f"toy {part}", "fingerprint": f} for part, f in prints.items()}
  (folder / "manifest.json").write_text(json.dumps(manifest))
  return folder


@pytest.fixture
def data_dir(tmp_path):
  return write_data_dir(tmp_path / "data")


@pytest.fixture
def make_data_dir():
  return write_data_dir


@pytest.fixture
def make_record():
  return random_record


@pytest.fixture
def geometry():
  return GEOMETRY


@pytest.fixture
def schema():
  return SCHEMA
