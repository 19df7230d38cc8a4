"""tasks/fine.py: chunks against the records they come from. A chunk is 8 of a clip's 20 frames."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from singsong_jax.errors import InputError
from singsong_jax.tokens.fine import BOS_ID, FineLayout
from tasks import datasets, fine
from tasks.schema import RecordSchema, shard_paths, write_records

LAYOUT = FineLayout(chunk_seconds=0.16)  # 32 coarse ids, 64 fine ones
NAMES = {"decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"}


@pytest.fixture
def examples():
  return fine.FineExamples(layout=LAYOUT)


@pytest.fixture
def chunks(examples, data_dir):
  """`chunks(split, …)` → the task's examples."""
  task = examples.make_task("task", str(data_dir))

  def get(split="train", **options):
    options = {"shuffle": False, "seed": 0, **options}
    return list(task.get_dataset(examples.lengths, split, **options).as_numpy_iterator())

  return get


@pytest.fixture
def make_iterator(examples, data_dir):
  defaults = {"data_dir": str(data_dir), "examples": examples, "batch_size": 3, "seed": 5}
  return lambda **options: datasets.train_iterator(**{**defaults, **options})


def start_of(example, make_record):
  """The frame at which a chunk was cut out of its record; fails where it is in none."""
  index = int(example["clip_id"].decode().split("_")[1].split(".")[0])
  codes = make_record(index)["instrumental_acoustic"].reshape(20, 12)
  chunk = LAYOUT.decode(np.concatenate([example["inputs"], example["targets"]]))
  (start,) = [start for start in range(13) if np.array_equal(codes[start : start + 8], chunk)]
  return start


def test_the_default_task():
  task = seqio.get_mixture_or_task("singsong_fine")
  for feature in task.output_features.values():
    assert feature.vocabulary == seqio.PassThroughVocabulary(12_289)
    assert not feature.add_eos and feature.dtype == tf.int32
  assert fine.FineExamples().lengths == {"inputs": 600, "targets": 1200}


def test_ids_by_hand(chunks, make_record):
  first = chunks("validation")[0]
  codes = make_record(100)["instrumental_acoustic"].reshape(20, 12)
  assert first["inputs"].shape == (32,) and first["targets"].shape == (64,)
  assert first["inputs"][5 * 4 + 2] == 1 + 2 * 1024 + codes[5, 2]
  assert first["targets"][5 * 8 + 3] == 1 + 7 * 1024 + codes[5, 7]


def test_chunks_come_from_anywhere_in_a_clip_by_the_seed(chunks, make_record):
  starts = [
    [start_of(example, make_record) for example in chunks(seed=seed, num_epochs=8)] for seed in (0, 0, 1)
  ]
  assert starts[0] == starts[1] != starts[2]
  assert starts[0][:10] != starts[0][10:20]
  assert set(starts[0]) == set(range(13))  # 80 draws of 13 frames, the last one included


def test_evaluation_always_reads_the_first_chunk(chunks, make_record):
  for seed in (0, 1, None):
    assert [start_of(example, make_record) for example in chunks("validation", seed=seed)] == [0, 0, 0]


def test_batches(make_iterator):
  batch = next(make_iterator())
  assert batch.pop("ids").shape == (3,)
  assert {name: (array.shape, array.dtype) for name, array in batch.items()} == dict.fromkeys(
    NAMES, ((3, 96), np.int32)
  )
  assert (batch["decoder_input_tokens"][:, 0] == BOS_ID).all()
  np.testing.assert_array_equal(batch["decoder_input_tokens"][:, 1:], batch["decoder_target_tokens"][:, :-1])
  np.testing.assert_array_equal(batch["decoder_loss_weights"], np.tile([0] * 32 + [1] * 64, (3, 1)))
  LAYOUT.decode(batch["decoder_target_tokens"])  # raises for an illegal id


def test_a_restored_iterator_goes_on_exactly(make_iterator, tmp_path):
  iterator = make_iterator()
  for _ in range(5):
    next(iterator)
  iterator.save(tmp_path)
  expected = [next(iterator) for _ in range(6)]
  fresh = make_iterator()
  fresh.restore(tmp_path)
  for batch in expected:
    np.testing.assert_array_equal(next(fresh)["decoder_target_tokens"], batch["decoder_target_tokens"])


def test_a_position_with_other_chunks_is_refused(make_iterator, tmp_path):
  make_iterator().save(tmp_path)
  other = fine.FineExamples(layout=FineLayout(chunk_seconds=0.2))
  with pytest.raises(InputError, match=r"chunk_seconds was 0.16 and is now 0.2"):
    make_iterator(examples=other).restore(tmp_path)


def test_eval_batches_count_every_chunk_once(examples, data_dir):
  batches = list(datasets.eval_batches(data_dir=str(data_dir), examples=examples, batch_size=2))
  assert [batch["decoder_loss_weights"].sum(axis=1).tolist() for batch in batches] == [[64, 64], [64, 0]]


def test_an_illegal_code_is_named(make_iterator, data_dir, schema, make_record):
  path = shard_paths(data_dir, "train", 2)[0]
  example = tf.train.Example.FromString(schema.to_example(make_record(0)))
  example.features.feature["instrumental_acoustic"].int64_list.value[7] = 1024
  write_records(path, [example.SerializeToString()])
  with pytest.raises(InputError, match=r"instrumental_acoustic\[7\] is 1024, outside 0 … 1023"):
    for _, _ in zip(range(20), make_iterator()):
      pass


def test_a_corpus_of_its_own(tmp_path, make_data_dir, geometry):
  folder = make_data_dir(tmp_path / "more", schema=RecordSchema(geometry=geometry))
  name = fine.register_corpus("choirs", str(folder), layout=LAYOUT)
  try:
    assert name == "singsong_choirs_fine"
    (example,) = seqio.get_mixture_or_task(name).get_dataset(split="train").take(1)
    assert example["targets"].shape == (64,)
  finally:
    seqio.TaskRegistry.remove(name)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"chunk_seconds": 3}, "chunk_seconds is 3, the clips of .* last 0.4 s"),
    ({"num_levels": 8}, "num_acoustic_levels=12, but the model has 8; its codec is 'toy codec'"),
    ({"num_acoustic_codes": 16}, "num_acoustic_codes=1024, but the model has 16"),
  ],
)
def test_a_layout_that_does_not_fit_the_records_is_refused(make_iterator, change, message):
  with pytest.raises(InputError, match=message):
    make_iterator(examples=fine.FineExamples(layout=FineLayout(**{"chunk_seconds": 0.16} | change)))
