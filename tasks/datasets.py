"""Batches for the trainer, from SeqIO tasks: gin's link between data and `training`.

A batch is what SeqIO's converters make, int32 numpy:

    encoder_input_tokens [B, S]   SingSong only
    decoder_input_tokens [B, T]   BOS, then targets shifted right
    decoder_target_tokens [B, T]  the fine stage's begin with the coarse ids
    decoder_loss_weights [B, T]   1; in the fine stage 0 at the coarse ids
    ids [B]                       bytes: the clip, for messages; never on a device
"""

import json
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import gin
import numpy as np
import seqio
import tensorflow as tf

from singsong_jax import storage
from singsong_jax.errors import InputError
from tasks.corpus import Corpus
from tasks.source import SHUFFLE_BUFFER_SIZE

tf.config.set_visible_devices([], "GPU")  # TensorFlow would take all the memory JAX needs

_READER_THREADS = 2
_SETTINGS_FILE = "settings.json"
_OLD_POSITION = "metadata"  # one file for all that was read, before there were readers
Batch = dict[str, np.ndarray]


class Examples(Protocol):
  """What a system is trained on: one SeqIO task, over any data directory.

  Attributes:
    lengths: exact ones of the task's features.
    tokenizers: 'codec', 'semantics' or both: whose codes it is made of.
  """

  @property
  def lengths(self) -> dict[str, int]: ...

  @property
  def tokenizers(self) -> tuple[str, ...]: ...

  def check(self, corpus: Corpus) -> None:
    """Raises InputError where the records are of other codes than the model's."""

  def make_task(self, name: str, data_dir: str, shuffle_buffer_size: int) -> seqio.Task:
    """The task, not registered."""

  def convert(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The task's examples to rows of a batch."""

  def describe(self) -> dict[str, Any]:
    """As JSON: what tells these examples from others of the same records."""


class TrainIterator(Iterator[Batch]):
  """One part of endless shuffled batches, with a position that can be saved and restored exactly.

  A batch is made of one block of rows from each reader, in order; each reads its own share of the records.
  """

  def __init__(
    self,
    make_reader: Callable[[int, int], tf.data.Dataset],
    settings: Mapping[str, Any],
    corpora: list[Corpus],
    split: str,
    part: int,
    num_parts: int,
    num_readers: int | None,
  ):
    """`make_reader(r, R)` gives equal datasets of blocks; `settings` (JSON) tell which sequence they have."""
    self._make_reader = make_reader
    self._settings = {**settings, "num_readers": num_readers or num_parts}
    self._may_have_other_readers = num_readers is None
    self._corpora = corpora
    self._split = split
    self._part, self._num_parts = part, num_parts
    self._open(self._settings["num_readers"])

  def _open(self, num_readers: int) -> None:
    batch_size = self._settings["batch_size"]
    if num_readers % self._num_parts:
      parts = ", ".join(str(n) for n in range(1, num_readers + 1) if num_readers % n == 0)
      raise InputError(
        f"the data are dealt to {num_readers} readers, which {self._num_parts} processes cannot share; start "
        f"one of {parts} processes (those of one model copy count once), or begin with another "
        "train_iterator.num_readers"
      )
    if batch_size % num_readers:
      raise InputError(f"batch_size={batch_size} does not divide into the blocks of {num_readers} readers")
    share = num_readers // self._num_parts
    self._readers = {
      index: iter(self._make_reader(index, num_readers))
      for index in range(self._part * share, (self._part + 1) * share)
    }

  def __next__(self) -> Batch:
    try:
      blocks = [next(reader) for reader in self._readers.values()]
    except tf.errors.OpError as error:
      raise explain(error, self._corpora, self._split) from error
    return {name: np.concatenate([_array(block[name]) for block in blocks]) for name in blocks[0]}

  def save(self, folder: pathlib.Path) -> None:
    """For each reader an archive of a TensorFlow checkpoint: file offsets, shuffle buffer, noise draws."""
    for index, reader in self._readers.items():
      with (
        tempfile.TemporaryDirectory() as parts,
        zipfile.ZipFile(
          folder / f"reader_{index:05}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive,
      ):
        tf.train.Checkpoint(reader=reader).write(f"{parts}/position")
        for path in sorted(pathlib.Path(parts).iterdir()):
          archive.write(path, path.name)
        archive.writestr(_SETTINGS_FILE, json.dumps(self._settings))

  def restore(self, folder: pathlib.Path) -> None:
    """Goes to a saved position.

    Raises:
      InputError: it was saved with other data or settings, or its readers cannot be dealt to the processes.
    """
    if (folder / _OLD_POSITION).exists():
      raise InputError(f"{folder} is an earlier version's position in the data; start in another --model_dir")
    with zipfile.ZipFile(folder / "reader_00000.zip") as archive:
      saved = json.loads(archive.read(_SETTINGS_FILE))
    if self._may_have_other_readers:
      self._settings["num_readers"] = saved["num_readers"]
    self._check_settings(saved)
    # A position before the first batch says nothing about the order: that needs a new iterator of a
    # new dataset, since a second iterator of the same one shuffles anew.
    self._open(saved["num_readers"])
    for index, reader in self._readers.items():
      with (
        tempfile.TemporaryDirectory() as parts,
        zipfile.ZipFile(folder / f"reader_{index:05}.zip") as archive,
      ):
        archive.extractall(parts)
        tf.train.Checkpoint(reader=reader).read(f"{parts}/position").assert_consumed()

  def _check_settings(self, saved: Mapping) -> None:
    differing = [
      f"{name} was {saved.get(name)!r} and is now {value!r}"
      for name, value in self._settings.items()
      if saved.get(name) != value
    ]
    if differing:
      raise InputError(
        f"cannot continue in the data: {'; '.join(differing)}. Use the same data and settings, or another "
        "--model_dir"
      )


def _array(tensor: tf.Tensor) -> np.ndarray:
  array = tensor.numpy()
  return array.astype(np.bytes_) if array.dtype == object else array


@gin.configurable(module="tasks.datasets")
def train_iterator(
  part: int = 0,
  num_parts: int = 1,
  *,
  data_dir: str,
  examples: Examples,
  batch_size: int,
  seed: int,
  split: str = "train",
  corpora: Mapping[str, float] | None = None,
  shuffle_buffer_size: int = SHUFFLE_BUFFER_SIZE,
  num_readers: int | None = None,
) -> TrainIterator:
  """Batches without end: shuffled, with a fresh draw each time a clip comes up, whole batches only.

  Args:
    part: which of `num_parts` equal parts of every batch is wanted.
    num_parts: by how many processes the batches are read.
    data_dir: folder that `data_pipelines.prepare` wrote.
    examples: what is made of a clip.
    batch_size: examples in a batch, of all parts together.
    seed: of order and draws.
    split: which songs.
    corpora: further data directories and their rates, relative to 1 for `data_dir`.
    shuffle_buffer_size: examples each reader keeps; less where there are fewer. They are part of a position.
    num_readers: shares the records are dealt into, a multiple of `num_parts`; batches depend on it, and not
      on `num_parts`. By default what a restored position has, or `num_parts` in a new run. A reader's share
      is files, where there are as many as readers, else every num_readers-th record.

  Raises:
    InputError: the data are missing, empty, damaged or made for another model.
  """
  rates = {data_dir: 1.0} | dict(corpora or {})
  if batch_size < 1:
    raise InputError(f"batch_size is {batch_size}; at least 1 is needed")
  if num_readers is not None and num_readers < 1:
    raise InputError(f"num_readers is {num_readers}; at least 1 is needed, or None")
  loaded = [_load(folder, examples) for folder in rates]
  for corpus in loaded[1:]:
    loaded[0].check_same_tokenizers(corpus, examples.tokenizers)
  parts = []
  for index, (corpus, rate) in enumerate(zip(loaded, rates.values())):
    corpus.paths(split)  # raises where there is nothing to read
    buffer_size = min(shuffle_buffer_size, corpus.num_records[split])
    parts.append((examples.make_task(f"corpus_{index}", str(corpus.data_dir), buffer_size), rate))
  settings = {
    "data": [[corpus.fingerprint, rate] for corpus, rate in zip(loaded, rates.values())],
    **examples.describe(),
    "batch_size": batch_size,
    "seed": seed,
    "split": split,
    "shuffle_buffer_size": shuffle_buffer_size,
  }

  def make_reader(index: int, num_readers: int) -> tf.data.Dataset:
    _check_shares(loaded, split, num_readers)
    # SeqIO's memory cache would become part of every saved position.
    dataset = seqio.Mixture("corpora", parts).get_dataset(
      examples.lengths,
      split,
      shuffle=True,
      seed=seed + index,  # or all readers would draw alike
      num_epochs=None,
      try_in_mem_cache=False,
      shard_info=seqio.ShardInfo(index, num_readers),
      passthrough_features=["clip_id"],
    )
    dataset = examples.convert(dataset)
    return dataset.batch(batch_size // num_readers, drop_remainder=True).with_options(options())

  return TrainIterator(make_reader, settings, loaded, split, part, num_parts, num_readers)


def _load(data_dir: str, examples: Examples) -> Corpus:
  corpus = Corpus.load(data_dir)
  examples.check(corpus)
  return corpus


def _check_shares(corpora: list[Corpus], split: str, num_readers: int) -> None:
  """Raises InputError where a reader would have nothing to read: it would look for its first for ever."""
  for corpus in corpora:
    sizes = [storage.size(path) for path in corpus.paths(split)]
    by_files = len(sizes) >= num_readers
    full = all(map(any, (sizes[i::num_readers] for i in range(num_readers)))) if by_files else True
    if not full or corpus.num_records[split] < num_readers:
      raise InputError(
        f"the {corpus.num_records[split]} {split} records of {corpus.data_dir} in {len(sizes)} files leave "
        f"one of {num_readers} readers without any; start fewer processes, or prepare with fewer --num_shards"
      )


@gin.configurable(module="tasks.datasets")
def eval_batches(
  *,
  data_dir: str,
  examples: Examples,
  batch_size: int,
  split: str = "validation",
) -> Iterator[Batch]:
  """The same batches every time: in file order, with draw 0. Read as they are asked for.

  A last batch with too few examples is filled with repetitions of loss weight 0, so that every
  batch has one shape and metrics count each example once.

  Raises:
    InputError: as `train_iterator`.
  """
  corpus = _load(data_dir, examples)
  corpus.paths(split)
  task = examples.make_task("evaluation", data_dir, SHUFFLE_BUFFER_SIZE)
  # Any seed will do: there is one draw to choose from.
  dataset = task.get_dataset(examples.lengths, split, shuffle=False, seed=0)
  dataset = examples.convert(dataset).batch(batch_size)
  try:
    for batch in dataset.with_options(options()):
      yield fill({name: _array(tensor) for name, tensor in batch.items()}, batch_size)
  except tf.errors.OpError as error:
    raise explain(error, [corpus], split) from error


def fill(batch: Batch, batch_size: int) -> Batch:
  """Repeats rows up to `batch_size`, with loss weight 0."""
  rows = len(batch["decoder_loss_weights"])
  filled = {name: np.resize(array, (batch_size, *array.shape[1:])) for name, array in batch.items()}
  filled["decoder_loss_weights"][rows:] = 0
  return filled


def explain(error: tf.errors.OpError, corpora: list[Corpus], split: str) -> InputError:
  """The precise fault in the records where there is one, else TensorFlow's own words."""
  try:
    for corpus in corpora:
      corpus.check(split)
  except InputError as fault:
    return fault
  folders = ", ".join(str(corpus.data_dir) for corpus in corpora)
  return InputError(f"cannot read the {split} records of {folders}: {error.message}")


def options() -> tf.data.Options:
  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = _READER_THREADS
  options.threading.max_intra_op_parallelism = 1
  return options
