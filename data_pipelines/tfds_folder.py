"""A prepared data directory as a TensorFlow Datasets data set: its own files, and what TFDS wants to know."""

import os
import pathlib
import shutil
import tempfile

import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError
from tasks.corpus import Corpus
from tasks.schema import SPLITS, Field, RecordSchema, read_records

VERSION = "1.0.0"
_TEMPLATE = "{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def export(data_dir: str, output_dir: str, name: str) -> pathlib.Path:
  """Writes `output_dir/name/1.0.0`, in one step.

  Raises:
    InputError: no finished data directory, an unfit name, or there is such a data set already.
  """
  import tensorflow_datasets as tfds

  if not name.isidentifier() or name != name.lower():
    raise InputError(f"--name={name}: lower-case letters, digits and _ only, as TFDS has them")
  corpus = Corpus.load(data_dir)
  folder = files.local_folder(output_dir) / name / VERSION
  if folder.exists():
    raise InputError(f"{folder} is there already; give another --output_dir or --name")
  files.make_folder(folder.parent)
  with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as scratch:
    partial = pathlib.Path(scratch, VERSION)
    partial.mkdir()
    infos = [_link(corpus, split, partial) for split in SPLITS if corpus.num_records[split]]
    tfds.folder_dataset.write_metadata(
      data_dir=partial,
      features=features(corpus.schema),
      split_infos=infos,
      filename_template=_TEMPLATE,
      description="Token records of singsong_jax: vocals and instrumentals as semantic and acoustic codes.",
      supervised_keys=None,
    )
    partial.rename(folder)
  return folder


def features(schema: RecordSchema):
  """The fields of a record as TFDS knows them; `docs/data.md` says how the flat ones are laid out."""
  import tensorflow_datasets as tfds

  def feature(field: Field):
    if field.dtype == "string":
      return tfds.features.Text()
    if field.length == 1:
      return tfds.features.Scalar(dtype=np.dtype(field.dtype))
    return tfds.features.Tensor(shape=(field.length,), dtype=np.dtype(field.dtype))

  return tfds.features.FeaturesDict({name: feature(field) for name, field in schema.fields.items()})


def _link(corpus: Corpus, split: str, folder: pathlib.Path):
  """Puts a split's files into the folder and says what they are."""
  import tensorflow_datasets as tfds

  lengths, size = [], 0
  for path in corpus.paths(split):
    target = folder / pathlib.Path(path).name
    try:
      os.link(path, target)
    except OSError:  # another file system
      shutil.copyfile(path, target)
    lengths.append(sum(1 for _ in read_records(path)))
    size += target.stat().st_size
  template = tfds.core.ShardedFileTemplate(
    data_dir=folder, template=_TEMPLATE, filetype_suffix="tfrecord", dataset_name="", split=split
  )
  return tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template)
