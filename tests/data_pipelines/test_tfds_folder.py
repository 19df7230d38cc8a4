"""A data directory as TensorFlow Datasets sees it."""

import pytest

from data_pipelines import job, tfds_folder
from singsong_jax.errors import InputError
from tasks.corpus import Corpus


@pytest.mark.filterwarnings("ignore")  # of TFDS
def test_tfds_loads_what_was_prepared(songs, settings, separator, tmp_path):
  import tensorflow_datasets as tfds

  manifest = job.prepare(settings=settings, songs=str(songs), output_dir=str(tmp_path / "data"))
  folder = tfds_folder.export(tmp_path / "data", tmp_path / "tfds", "singsong")
  assert folder == tmp_path / "tfds" / "singsong" / "1.0.0"
  splits = {split: entry["records"] for split, entry in manifest["splits"].items() if entry["records"]}
  builder = tfds.builder("singsong", data_dir=tmp_path / "tfds")
  assert {split: info.num_examples for split, info in builder.info.splits.items()} == splits
  fields = Corpus.load(tmp_path / "data").schema.fields
  for split, count in splits.items():
    examples = list(tfds.as_numpy(tfds.load("singsong", data_dir=tmp_path / "tfds", split=split)))
    assert len(examples) == count and len({example["clip_id"] for example in examples}) == count
    for name, field in fields.items():
      assert examples[0][name].size == field.length if field.length > 1 else examples[0][name] is not None
      if field.limit is not None:
        assert 0 <= examples[0][name].min() <= examples[0][name].max() < field.limit
  with pytest.raises(InputError, match=r"1\.0\.0 is there already"):
    tfds_folder.export(tmp_path / "data", tmp_path / "tfds", "singsong")
  assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]  # no debris


def test_what_cannot_be_exported(tmp_path):
  with pytest.raises(InputError, match="is not a finished data directory"):
    tfds_folder.export(tmp_path, tmp_path / "tfds", "singsong")
  with pytest.raises(InputError, match="--name=My-Songs: lower-case letters"):
    tfds_folder.export(tmp_path, tmp_path / "tfds", "My-Songs")
