"""tasks/datasets.py."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import Geometry
from tasks import datasets
from tasks.schema import shard_paths, write_records
from tasks.singsong import SingSongExamples

NAMES = {"encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"}


@pytest.fixture
def make_iterator(data_dir, geometry):
  defaults = {"data_dir": str(data_dir), "batch_size": 3, "seed": 5}

  def make(vocals="noisy", geometry=geometry, **options):
    examples = SingSongExamples(vocals=vocals, features="s_sa", geometry=geometry)
    return datasets.train_iterator(**{**defaults, "examples": examples, **options})

  return make


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def same(batches, others):
  return all(np.array_equal(a[name], b[name]) for a, b in zip(batches, others, strict=True) for name in NAMES)


def test_batches(make_iterator):
  batch = next(make_iterator())
  assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
    "encoder_input_tokens": ((3, 10), np.int32),
    "decoder_input_tokens": ((3, 90), np.int32),
    "decoder_target_tokens": ((3, 90), np.int32),
    "decoder_loss_weights": ((3, 90), np.int32),
    "ids": ((3,), batch["ids"].dtype),
  }
  assert set(batch["ids"]) <= {f"song_{i}.wav@0".encode() for i in range(10)}
  assert (batch["decoder_input_tokens"][:, 0] == 1).all()


def test_endless_and_by_seed(make_iterator):
  batches = take(make_iterator(), 12)  # 36 examples from 10 clips
  assert same(batches, take(make_iterator(), 12))
  assert not same(batches, take(make_iterator(seed=6), 12))


@pytest.mark.parametrize(("position", "buffer"), [(0, 1024), (1, 4), (7, 1024)])
def test_a_restored_iterator_goes_on_exactly(make_iterator, tmp_path, position, buffer):
  iterator = make_iterator(shuffle_buffer_size=buffer)
  take(iterator, position)
  iterator.save(tmp_path)
  expected = take(iterator, 9)
  fresh = make_iterator(shuffle_buffer_size=buffer)
  fresh.restore(tmp_path)
  assert same(expected, take(fresh, 9))
  iterator.restore(tmp_path)
  assert same(expected, take(iterator, 9))


def test_batches_do_not_depend_on_the_number_of_processes(make_iterator):
  """Two processes with a reader each against one with two readers, each of which reads its own file."""
  options = {"batch_size": 4, "shuffle_buffer_size": 4}
  one = take(make_iterator(num_readers=2, **options), 9)
  parts = [take(make_iterator(part=part, num_parts=2, **options), 9) for part in (0, 1)]
  joined = [{name: np.concatenate([a[name], b[name]]) for name in a} for a, b in zip(*parts, strict=True)]
  assert same(one, joined)
  clips = [{clip for batch in batches for clip in batch["ids"]} for batches in parts]
  assert [len(part) for part in clips] == [5, 5] and not clips[0] & clips[1]


def test_more_readers_than_files_read_every_other_record(make_iterator):
  clips = [take(make_iterator(part=i, num_parts=5, batch_size=10), 4) for i in range(5)]  # of 2 files
  assert sorted(len({clip for batch in part for clip in batch["ids"]}) for part in clips) == [2] * 5


@pytest.mark.slow
@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_a_position_moves_to_another_number_of_processes(make_iterator, tmp_path, num_parts):
  options = {"batch_size": 4, "shuffle_buffer_size": 4}
  whole = make_iterator(num_readers=4, **options)
  for part in (0, 1):
    half = make_iterator(part=part, num_parts=2, num_readers=4, **options)
    take(half, 3)
    half.save(tmp_path)
  expected = take(whole, 6)[3:]
  for part in range(num_parts):
    iterator = make_iterator(part=part, num_parts=num_parts, **options)
    iterator.restore(tmp_path)
    rows = slice(part * 4 // num_parts, (part + 1) * 4 // num_parts)
    assert same(take(iterator, 3), [{name: array[rows] for name, array in b.items()} for b in expected])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"num_parts": 2, "num_readers": 3},
      r"dealt to 3 readers, which 2 processes cannot share; start one of 1, 3",
    ),
    ({"num_readers": 0}, r"num_readers is 0; at least 1 is needed"),
    ({"num_parts": 2}, r"batch_size=3 does not divide into the blocks of 2 readers"),
    ({"num_parts": 12, "batch_size": 12}, r"the 10 train records of .* leave one of 12 readers without any"),
  ],
)
def test_readers_that_cannot_be_dealt(make_iterator, options, message):
  with pytest.raises(InputError, match=message):
    make_iterator(**options)


def test_a_reader_whose_files_are_empty_is_refused(make_iterator, data_dir):
  write_records(shard_paths(data_dir, "train", 2)[1], [])
  with pytest.raises(InputError, match=r"in 2 files leave one of 2 readers without any"):
    make_iterator(num_parts=2, batch_size=4)


def test_a_position_of_more_readers_than_can_be_shared(make_iterator, tmp_path):
  make_iterator(num_readers=3, batch_size=6).save(tmp_path)
  with pytest.raises(InputError, match="dealt to 3 readers, which 2 processes cannot share"):
    make_iterator(part=0, num_parts=2, batch_size=6).restore(tmp_path)
  with pytest.raises(InputError, match="num_readers was 3 and is now 1"):
    make_iterator(num_readers=1, batch_size=6).restore(tmp_path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"seed": 6}, "seed was 5 and is now 6"),
    ({"batch_size": 2, "seed": 6}, "batch_size was 3 and is now 2; seed was 5 and is now 6"),
    ({"vocals": "clean"}, "vocals was 'noisy'"),
    ({"corpora": "another"}, "data was"),
  ],
)
def test_a_position_in_other_data_is_refused(make_iterator, make_data_dir, tmp_path, change, message):
  make_iterator().save(tmp_path)
  if "corpora" in change:
    change = {"corpora": {str(make_data_dir(tmp_path / "more", seed=1)): 1.0}}
  with pytest.raises(InputError, match=message):
    make_iterator(**change).restore(tmp_path)


def test_several_corpora(make_iterator, make_data_dir, make_record, tmp_path):
  folder = make_data_dir(tmp_path / "more", {"train": 1, "validation": 0, "test": 0}, seed=1)
  batches = take(make_iterator(corpora={str(folder): 2.0}), 50)
  more = 2 + make_record(1000)["instrumental_semantic"]
  share = np.mean([(batch["decoder_target_tokens"][:, :10] == more).all(axis=1) for batch in batches])
  assert 0.5 < share < 0.8  # 2 / 3


@pytest.mark.parametrize("damage", ["code", "length", "truncate"])
def test_a_damaged_record_is_named(make_iterator, data_dir, schema, make_record, damage):
  path = pathlib.Path(shard_paths(data_dir, "train", 2)[1])
  example = tf.train.Example.FromString(schema.to_example(make_record(3)))
  codes = example.features.feature["instrumental_acoustic"].int64_list.value
  if damage == "code":
    codes[3] = 1024
  elif damage == "length":
    codes.pop()
  write_records(path, [schema.to_example(make_record(1)), example.SerializeToString()])
  if damage == "truncate":
    path.write_bytes(path.read_bytes()[:-3])
  message = {
    "code": r"record 1 \(clip 'song_3.wav@0'\): instrumental_acoustic\[3\] is 1024, outside 0 … 1023",
    "length": r"record 1 \(clip 'song_3.wav@0'\): field 'instrumental_acoustic' has 239 values, expected 240",
    "truncate": "record 1 is truncated or damaged",
  }[damage]
  with pytest.raises(InputError, match=rf"train\.tfrecord-00001-of-00002: {message}"):
    take(make_iterator(), 20)


def test_missing_empty_and_foreign_data(make_iterator, tmp_path):
  with pytest.raises(InputError, match="not a finished data directory"):
    make_iterator(data_dir=str(tmp_path / "nowhere"))
  with pytest.raises(InputError, match=r"the test split of .* has no records"):
    make_iterator(split="test")
  with pytest.raises(InputError, match="but the model has"):
    make_iterator(geometry=Geometry())


def test_corpora_of_different_tokenisers_are_not_mixed(make_iterator, make_data_dir, tmp_path):
  folder = make_data_dir(tmp_path / "more", seed=1, tokenizers="another codec")
  with pytest.raises(InputError, match="tokenised with different codec"):
    make_iterator(corpora={str(folder): 1.0})


def test_of_a_codec_whose_codes_are_not_read_corpora_may_have_any(
  data_dir, geometry, make_data_dir, tmp_path
):
  folder = make_data_dir(tmp_path / "more", seed=1, tokenizers="another codec")
  geometry = dataclasses.replace(geometry, num_acoustic_levels=4)
  examples = SingSongExamples(vocals="noisy", features="s_s", geometry=geometry)
  options = {"data_dir": str(data_dir), "examples": examples, "batch_size": 3, "seed": 5}
  batch = next(datasets.train_iterator(**options, corpora={str(folder): 1.0}))
  assert batch["decoder_target_tokens"].shape == (3, 10)
  with pytest.raises(InputError, match="num_acoustic_levels"):
    examples = dataclasses.replace(examples, features="s_sa")
    next(datasets.train_iterator(**{**options, "examples": examples}))


def test_eval_batches_count_every_example_once(data_dir, geometry):
  examples = SingSongExamples(vocals="noisy", features="s_sa", geometry=geometry)
  options = {"data_dir": str(data_dir), "examples": examples}
  batches = list(datasets.eval_batches(batch_size=2, **options))
  weights = [batch["decoder_loss_weights"].sum(axis=1).tolist() for batch in batches]
  assert weights == [[90, 90], [90, 0]]
  assert same(batches, list(datasets.eval_batches(batch_size=2, **options)))
  (large,) = datasets.eval_batches(batch_size=8, **options)
  assert large["encoder_input_tokens"].shape == (8, 10) and large["decoder_loss_weights"].sum() == 3 * 90
