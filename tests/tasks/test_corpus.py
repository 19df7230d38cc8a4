"""tasks/corpus.py."""

import pathlib

import pytest

from singsong_jax.errors import InputError
from singsong_jax.tokens.vocabulary import Vocabulary
from tasks.corpus import Corpus, record_sizes


def test_a_finished_directory(data_dir):
  corpus = Corpus.load(data_dir)
  assert corpus.num_records == {"train": 10, "validation": 3, "test": 0}
  assert [pathlib.Path(path).name for path in corpus.paths("validation")] == [
    "validation.tfrecord-00000-of-00002",
    "validation.tfrecord-00001-of-00002",
  ]
  corpus.check("train")


def test_an_unfinished_directory(tmp_path):
  with pytest.raises(InputError, match=r"manifest.json does not exist.*data_pipelines.prepare"):
    Corpus.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"splits": {}}', '{"schema": 3, "splits": {}}'])
def test_a_damaged_manifest(tmp_path, text):
  (tmp_path / "manifest.json").write_text(text)
  with pytest.raises(InputError, match=r"manifest\.json is not"):
    Corpus.load(tmp_path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"num_semantic_codes": 500},
      r"num_semantic_codes=1024, but .* 500; its semantics is 'toy semantics': .*",
    ),
    (
      {"num_acoustic_levels": 8},
      r"num_acoustic_levels=12, .* 8; its codec is 'toy codec': .* --codec=… of run",
    ),
    (
      {"acoustic_rate_hz": 75.0},
      r"acoustic_rate_hz=50, but the model has 75; its codec is 'toy codec': train",
    ),
    ({"window_seconds": 10.0}, r"window_seconds=0.4, .* 10; train with --gin.Geometry.window_seconds=0.4"),
  ],
)
def test_data_for_another_model_say_what_would_mend_it(data_dir, geometry, change, message):
  corpus = Corpus.load(data_dir)
  sizes = record_sizes(Vocabulary(num_coarse_levels=2), geometry)  # records have all levels
  corpus.check_made_for(sizes)
  with pytest.raises(InputError, match=message):
    corpus.check_made_for(sizes | change)


def test_empty_unknown_and_missing_splits(data_dir):
  corpus = Corpus.load(data_dir)
  with pytest.raises(InputError, match=r"the test split of .* has no records; add songs"):
    corpus.paths("test")
  with pytest.raises(InputError, match="split 'dev' does not exist; choose one of train, validation, test"):
    corpus.paths("dev")
  (data_dir / "tokens" / "train.tfrecord-00001-of-00002").unlink()
  with pytest.raises(InputError, match=r"train\.tfrecord-00001-of-00002 is missing"):
    corpus.paths("train")
