"""The records of a data directory as a SeqIO source, which every task of the project reads."""

import os
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from tasks.corpus import Corpus
from tasks.schema import SPLITS

SHUFFLE_BUFFER_SIZE = 1024  # examples; they are part of every saved position


def default_data_dir() -> str:
  """`SINGSONG_DATA_DIR`, or `data`."""
  return os.environ.get("SINGSONG_DATA_DIR", "data")


class CorpusSource(seqio.FileDataSource):
  """Records of a data directory, which is found and checked only when it is read.

  Each parsed record gets `is_training` (bool): whatever is drawn at random is drawn in train only, so that
  evaluations can be compared.
  """

  def __init__(self, data_dir: str | Callable[[], str], check: Callable[[Corpus], None]):
    """`check` raises InputError for records of another model's codes."""
    self._data_dir = data_dir if callable(data_dir) else lambda: data_dir
    self._check = check
    super().__init__(read_file_fn=self._read, split_to_filepattern=dict.fromkeys(SPLITS, ""))

  @property
  def corpus(self) -> Corpus:
    """Raises InputError where there is none, or one for another model."""
    corpus = Corpus.load(self._data_dir())
    self._check(corpus)
    return corpus

  @property
  def splits(self) -> list[str]:
    """Those with records: what SeqIO caches, mixes and evaluates."""
    return [split for split, records in self.corpus.num_records.items() if records]

  def list_shards(self, split: str) -> list[str]:
    return [str(path) for path in self.corpus.paths(split)]

  def num_input_examples(self, split: str) -> int:
    return self.corpus.num_records[split]

  def get_dataset(self, split: str = "train", *args, **kwargs) -> tf.data.Dataset:
    dataset = super().get_dataset(split, *args, **kwargs)
    return dataset.map(lambda record: {**record, "is_training": tf.constant(split == "train")})

  def _read(self, path: tf.Tensor) -> tf.data.Dataset:
    description = self.corpus.schema.feature_description
    return tf.data.TFRecordDataset(path).map(lambda x: tf.io.parse_single_example(x, description))


def convert_with_ids(
  make_converter: Callable[..., seqio.FeatureConverter], dataset: tf.data.Dataset, lengths: Mapping[str, int]
) -> tf.data.Dataset:
  """Examples to rows, by the converter that `make_converter(passthrough_features=…)` makes, with `ids`.

  `ids` (bytes) is the clip a row was made of, for error messages.
  """
  converter = make_converter(
    passthrough_features={"ids": seqio.FeatureConverter.FeatureSpec(dtype=tf.string)}
  )
  dataset = dataset.map(
    lambda example: {**example, "ids": example["clip_id"][None]}
  )  # SeqIO pads vectors only
  rows = converter(dataset, {**lengths, "ids": 1})
  return rows.map(lambda row: {**row, "ids": row["ids"][0]})
