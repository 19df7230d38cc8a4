"""tasks/corpus.py."""

import pytest

from singsong_jax.errors import InputError
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry
from tasks.corpus import Corpus


def test_a_finished_directory(data_dir, geometry):
  corpus = Corpus.load(data_dir, geometry=geometry)
  assert corpus.num_records == {"train": 10, "validation": 3, "test": 0}
  assert [path.name for path in corpus.paths("validation")] == [
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


def test_another_vocabulary_or_geometry_names_both(data_dir, geometry):
  with pytest.raises(InputError, match=r"num_semantic_codes=1024.*but the model has.*num_semantic_codes=500"):
    Corpus.load(data_dir, Vocabulary(num_semantic_codes=500), geometry)
  with pytest.raises(InputError, match=r"window_seconds=0\.4.*but the model has.*window_seconds=10\.0"):
    Corpus.load(data_dir, geometry=Geometry())


def test_empty_unknown_and_missing_splits(data_dir, geometry):
  corpus = Corpus.load(data_dir, geometry=geometry)
  with pytest.raises(InputError, match=r"the test split of .* has no records; add songs"):
    corpus.paths("test")
  with pytest.raises(InputError, match="split 'dev' does not exist; choose one of train, validation, test"):
    corpus.paths("dev")
  (data_dir / "tokens" / "train.tfrecord-00001-of-00002").unlink()
  with pytest.raises(InputError, match=r"train\.tfrecord-00001-of-00002 is missing"):
    corpus.paths("train")
