"""tasks/singsong.py and tasks/preprocessors.py, as a SeqIO user meets them."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import seqio
import tensorflow as tf

from singsong_jax.errors import InputError
from tasks import singsong
from tasks.schema import RecordSchema, shard_paths, write_records

FEATURES = ("sa_sa", "s_sa", "a_a", "sa_a", "a_sa")
NAMES = [f"singsong_{vocals}_{features}" for vocals in ("clean", "noisy") for features in FEATURES]


@pytest.fixture
def make_task(data_dir, geometry):
  return lambda vocals="noisy", features="s_sa": singsong.make_task(
    "task", str(data_dir), vocals, features, geometry=geometry
  )


@pytest.fixture
def registry():
  """Takes away what a test registers."""
  before = set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
  yield
  for known, kind in zip(before, (seqio.TaskRegistry, seqio.MixtureRegistry)):
    for name in set(kind.names()) - known:
      kind.remove(name)


def examples(task, split="train", **options):
  return list(task.get_dataset(split=split, **{"shuffle": False, "seed": 0, **options}).as_numpy_iterator())


def test_every_combination_is_registered():
  assert set(NAMES) <= set(seqio.TaskRegistry.names())


@pytest.mark.parametrize("name", NAMES)
def test_output_features_without_eos(name):
  for feature in seqio.get_mixture_or_task(name).output_features.values():
    assert feature.vocabulary == seqio.PassThroughVocabulary(5122)
    assert not feature.add_eos and feature.dtype == tf.int32


def test_lengths_of_the_papers_geometry():
  lengths = [tuple(singsong.task_feature_lengths(features).values()) for features in FEATURES]
  assert lengths == [(2250, 2250), (250, 2250), (2000, 2000), (2250, 2000), (2000, 2250)]


def test_the_default_directory_is_looked_up_at_use(monkeypatch, tmp_path):
  task = seqio.get_mixture_or_task("singsong_noisy_s_sa")
  monkeypatch.setenv("SINGSONG_DATA_DIR", str(tmp_path / "nowhere"))
  with pytest.raises(InputError, match="nowhere"):
    task.get_dataset(split="train")


@pytest.mark.parametrize("vocals", ["clean", "noisy"])
def test_ids_by_hand(make_task, make_record, vocals):
  """sa_sa: semantic frame 3 → 2 + s; coarse frame 5, level 2 → 1026 + 2·1024 + c."""
  first = examples(make_task(vocals, "sa_sa"), "validation")[0]
  record = make_record(100)
  assert first["clip_id"] == b"song_100.wav@0"
  coarse = 10 + 5 * 4 + 2
  for key, semantic, acoustic in (
    ("inputs", f"vocals_semantic_{vocals}", f"vocals_acoustic_{vocals}"),
    ("targets", "instrumental_semantic", "instrumental_acoustic"),
  ):
    assert first[key].dtype == np.int32 and first[key].shape == (10 + 80,)
    assert first[key][3] == 2 + record[semantic][3]
    assert first[key][coarse] == 1026 + 2 * 1024 + record[acoustic][5 * 12 + 2]


@pytest.mark.parametrize(("features", "lengths"), [("a_sa", (80, 90)), ("sa_a", (90, 80)), ("a_a", (80, 80))])
def test_streams(make_task, features, lengths):
  first = examples(make_task("noisy", features))[0]
  assert (len(first["inputs"]), len(first["targets"])) == lengths


def draws(found, make_record):
  """Which of the 4 noisy tokenisations each example has."""
  result = []
  for example in found:
    index = int(example["clip_id"].decode().split("_")[1].split(".")[0])
    candidates = 2 + make_record(index)["vocals_semantic_noisy"].reshape(4, 10)
    (draw,) = np.flatnonzero((candidates == example["inputs"]).all(axis=1))
    result.append(int(draw))
  return result


def test_noise_draws_are_fresh_each_epoch_and_repeat_with_the_seed(make_task, make_record):
  two_epochs = [draws(examples(make_task(), seed=seed, num_epochs=2), make_record) for seed in (0, 0, 1)]
  assert two_epochs[0] == two_epochs[1] != two_epochs[2]
  assert two_epochs[0][:10] != two_epochs[0][10:]
  assert set(two_epochs[0]) == {0, 1, 2, 3}


def test_evaluation_always_hears_draw_0(make_task, make_record):
  for seed in (0, 1, None):
    assert draws(examples(make_task(), "validation", seed=seed), make_record) == [0, 0, 0]


def test_same_seed_same_order(make_task):
  orders = [
    [x["clip_id"] for x in examples(make_task(), shuffle=True, seed=seed, num_epochs=2)] for seed in (3, 3, 4)
  ]
  assert orders[0] == orders[1] != orders[2]


def test_batches_start_with_bos_and_weigh_every_position(make_task, geometry):
  task, lengths = make_task(), singsong.task_feature_lengths("s_sa", geometry=geometry)
  dataset = seqio.get_dataset(task, lengths, singsong.feature_converter(), dataset_split="validation")
  for batch in dataset.as_numpy_iterator():
    assert batch["decoder_input_tokens"][0] == 1
    np.testing.assert_array_equal(batch["decoder_input_tokens"][1:], batch["decoder_target_tokens"][:-1])
    assert (batch["decoder_loss_weights"] == 1).all() and len(batch["decoder_loss_weights"]) == 90


def test_longer_is_padded_and_shorter_is_refused(make_task):
  dataset = seqio.get_dataset(
    make_task(), {"inputs": 16, "targets": 96}, singsong.feature_converter(), dataset_split="train"
  )
  batch = next(dataset.as_numpy_iterator())
  assert batch["decoder_loss_weights"].tolist() == [1] * 90 + [0] * 6
  with pytest.raises(
    InputError, match=r"sequence_length\['targets'\] is 89, but every example has exactly 90"
  ):
    make_task().get_dataset({"inputs": 10, "targets": 89}, "train")


def test_corpora_and_mixture(registry, tmp_path, make_data_dir, geometry):
  for seed, name in ((1, "north"), (2, "south")):
    folder = make_data_dir(tmp_path / name, seed=seed)
    registered = singsong.register_corpus(name, str(folder), geometry=geometry)
    assert f"singsong_{name}_noisy_s_sa" in registered
  assert "singsong_both_noisy_s_sa" in singsong.register_mixture("both", {"north": 1, "south": 3})
  mixture = seqio.get_mixture_or_task("singsong_both_noisy_s_sa")
  dataset = mixture.get_dataset(split="train", seed=0, num_epochs=None, passthrough_features=["clip_id"])
  songs = [int(x["clip_id"][5:9]) // 1000 for x in dataset.take(400).as_numpy_iterator()]
  assert 250 < songs.count(2) < 350 and songs.count(1) + songs.count(2) == 400


def test_only_splits_with_records_are_offered(make_task):
  assert make_task().splits == ["train", "validation"]
  with pytest.raises(InputError, match=r"the test split of .* has no records"):
    make_task().get_dataset(split="test")


def test_an_illegal_code_or_version_stops_reading(make_task, data_dir, schema, make_record):
  path = shard_paths(data_dir, "train", 2)[0]
  for name, value in (("instrumental_semantic", 1024), ("schema_version", 2)):
    example = tf.train.Example.FromString(schema.to_example(make_record(0)))
    example.features.feature[name].int64_list.value[0] = value
    write_records(path, [example.SerializeToString()])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"song_0\.wav@0"):
      examples(make_task())


@pytest.mark.parametrize(("vocals", "features"), [("loud", "s_sa"), ("clean", "s")])
def test_unknown_combinations(vocals, features):
  with pytest.raises(ValueError, match="unknown"):
    singsong.make_task("task", "data", vocals, features)


@pytest.mark.slow
def test_seqio_cache_keeps_the_draws_fresh(tmp_path, monkeypatch, make_data_dir):
  """With SeqIO's own command, on the default tasks."""
  schema = RecordSchema()  # the default tasks have the paper's sizes
  data_dir = make_data_dir(tmp_path / "data", {"train": 3, "validation": 1, "test": 0}, schema=schema)
  monkeypatch.setenv("SINGSONG_DATA_DIR", str(data_dir))
  name, cache = "singsong_noisy_s_sa", str(tmp_path / "cache")
  command = [sys.executable, "-m", "seqio.scripts.cache_tasks_main", "--module_import=tasks.singsong"]
  command += [f"--tasks={name}", f"--output_cache_dir={cache}", "--pipeline_options=--runner=FnApiRunner"]
  subprocess.run(command, check=True, cwd=pathlib.Path(singsong.__file__).parent.parent)
  previous = seqio.get_global_cache_dirs()
  seqio.set_global_cache_dirs([cache])
  try:
    found = examples(seqio.get_mixture_or_task(name), use_cached=True, num_epochs=8)
  finally:
    seqio.set_global_cache_dirs(previous)
  assert len(found) == 24 and found[0]["inputs"].dtype == np.int32 and found[0]["targets"].shape == (2250,)
  of_first = {x["inputs"].tobytes() for x in found if x["clip_id"] == b"song_0.wav@0"}
  assert 2 <= len(of_first) <= 4  # 8 epochs, 4 draws
