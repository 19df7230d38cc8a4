"""tasks/datasets.py."""

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
  }
  assert (batch["decoder_input_tokens"][:, 0] == 1).all()


def test_endless_and_by_seed(make_iterator):
  batches = take(make_iterator(), 12)  # 36 examples from 10 clips
  assert same(batches, take(make_iterator(), 12))
  assert not same(batches, take(make_iterator(seed=6), 12))


@pytest.mark.parametrize(("position", "buffer"), [(0, 1024), (1, 4), (7, 1024)])
def test_a_restored_iterator_goes_on_exactly(make_iterator, position, buffer):
  iterator = make_iterator(shuffle_buffer_size=buffer)
  take(iterator, position)
  state = iterator.state()
  expected = take(iterator, 9)
  fresh = make_iterator(shuffle_buffer_size=buffer)
  fresh.restore(state)
  assert same(expected, take(fresh, 9))
  iterator.restore(state)
  assert same(expected, take(iterator, 9))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"seed": 6}, "seed was 5 and is now 6"),
    ({"batch_size": 2}, "batch_size was 3 and is now 2"),
    ({"vocals": "clean"}, "vocals was 'noisy'"),
    ({"corpora": "another"}, "data was"),
  ],
)
def test_a_position_in_other_data_is_refused(make_iterator, make_data_dir, tmp_path, change, message):
  state = make_iterator().state()
  if "corpora" in change:
    change = {"corpora": {str(make_data_dir(tmp_path / "more", seed=1)): 1.0}}
  with pytest.raises(InputError, match=message):
    make_iterator(**change).restore(state)


def test_several_corpora(make_iterator, make_data_dir, make_record, tmp_path):
  folder = make_data_dir(tmp_path / "more", {"train": 1, "validation": 0, "test": 0}, seed=1)
  batches = take(make_iterator(corpora={str(folder): 2.0}), 50)
  more = 2 + make_record(1000)["instrumental_semantic"]
  share = np.mean([(batch["decoder_target_tokens"][:, :10] == more).all(axis=1) for batch in batches])
  assert 0.5 < share < 0.8  # 2 / 3


@pytest.mark.parametrize("damage", ["code", "length", "truncate"])
def test_a_damaged_record_is_named(make_iterator, data_dir, schema, make_record, damage):
  path = shard_paths(data_dir, "train", 2)[1]
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


def test_eval_batches_count_every_example_once(data_dir, geometry):
  examples = SingSongExamples(vocals="noisy", features="s_sa", geometry=geometry)
  options = {"data_dir": str(data_dir), "examples": examples}
  batches = list(datasets.eval_batches(batch_size=2, **options))
  weights = [batch["decoder_loss_weights"].sum(axis=1).tolist() for batch in batches]
  assert weights == [[90, 90], [90, 0]]
  assert same(batches, list(datasets.eval_batches(batch_size=2, **options)))
  (large,) = datasets.eval_batches(batch_size=8, **options)
  assert large["encoder_input_tokens"].shape == (8, 10) and large["decoder_loss_weights"].sum() == 3 * 90
