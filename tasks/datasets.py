"""Batches for the trainer, from SeqIO tasks: gin's link between data and `training`.

A batch is what SeqIO's converters make, int32 numpy:

    encoder_input_tokens [B, S]   SingSong only
    decoder_input_tokens [B, T]   BOS, then targets shifted right
    decoder_target_tokens [B, T]  the fine stage's begin with the coarse ids
    decoder_loss_weights [B, T]   1; in the fine stage 0 at the coarse ids
"""

import io
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

from singsong_jax.errors import InputError
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry
from tasks.corpus import Corpus
from tasks.source import SHUFFLE_BUFFER_SIZE

tf.config.set_visible_devices([], "GPU")  # TensorFlow would take all the memory JAX needs

_READER_THREADS = 2
_SETTINGS_FILE = "settings.json"
Batch = dict[str, np.ndarray]


class Examples(Protocol):
  """What a system is trained on: one SeqIO task, over any data directory.

  Attributes:
    vocabulary, geometry: what the records must have.
    lengths: exact ones of the task's features.
  """

  vocabulary: Vocabulary
  geometry: Geometry

  @property
  def lengths(self) -> dict[str, int]: ...

  def make_task(self, name: str, data_dir: str, shuffle_buffer_size: int) -> seqio.Task:
    """The task, not registered."""

  def convert(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The task's examples to rows of a batch."""

  def describe(self) -> dict[str, Any]:
    """As JSON: what tells these examples from others of the same records."""


class TrainIterator(Iterator[Batch]):
  """Endless shuffled batches, with a position that can be saved and restored exactly."""

  def __init__(
    self,
    make_dataset: Callable[[], tf.data.Dataset],
    settings: Mapping,
    corpora: list[Corpus],
    split: str,
  ):
    """`make_dataset` gives equal datasets; `settings` are JSON and tell which sequence they have."""
    self._make_dataset = make_dataset
    self._settings = dict(settings)
    self._corpora = corpora
    self._split = split
    self._iterator = iter(make_dataset())

  def __next__(self) -> Batch:
    try:
      return {name: tensor.numpy() for name, tensor in next(self._iterator).items()}
    except tf.errors.OpError as error:
      raise explain(error, self._corpora, self._split) from error

  def state(self) -> bytes:
    """The position: file offsets, shuffle buffer, noise draws. An archive of a TensorFlow checkpoint."""
    buffer = io.BytesIO()
    with (
      tempfile.TemporaryDirectory() as folder,
      zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
      tf.train.Checkpoint(iterator=self._iterator).write(f"{folder}/position")
      for path in sorted(pathlib.Path(folder).iterdir()):
        archive.write(path, path.name)
      archive.writestr(_SETTINGS_FILE, json.dumps(self._settings))
    return buffer.getvalue()

  def restore(self, state: bytes) -> None:
    """Goes to a saved position.

    Raises:
      InputError: it was saved with other data or settings.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(state)) as archive:
      self._check_settings(json.loads(archive.read(_SETTINGS_FILE)))
      archive.extractall(folder)
      # A position before the first batch says nothing about the order: that needs a new iterator of a
      # new dataset, since a second iterator of the same one shuffles anew.
      self._iterator = iter(self._make_dataset())
      tf.train.Checkpoint(iterator=self._iterator).read(f"{folder}/position").assert_consumed()

  def _check_settings(self, saved: Mapping) -> None:
    for name, value in self._settings.items():
      if saved.get(name) != value:
        raise InputError(
          f"cannot continue in the data: {name} was {saved.get(name)!r} and is now {value!r}; "
          "use the same data and settings, or another --model_dir"
        )


@gin.configurable(module="tasks.datasets")
def train_iterator(
  *,
  data_dir: str,
  examples: Examples,
  batch_size: int,
  seed: int,
  split: str = "train",
  corpora: Mapping[str, float] | None = None,
  shuffle_buffer_size: int = SHUFFLE_BUFFER_SIZE,
) -> TrainIterator:
  """Batches without end: shuffled, with a fresh draw each time a clip comes up, whole batches only.

  Args:
    data_dir: folder that `data_pipelines.prepare` wrote.
    examples: what is made of a clip.
    batch_size: examples in a batch.
    seed: of order and draws.
    split: which songs.
    corpora: further data directories and their rates, relative to 1 for `data_dir`.
    shuffle_buffer_size: examples; less where the split is smaller. They are part of `state()`.

  Raises:
    InputError: the data are missing, empty, damaged or made for another model.
  """
  rates = {data_dir: 1.0} | dict(corpora or {})
  if batch_size < 1:
    raise InputError(f"batch_size is {batch_size}; at least 1 is needed")
  loaded = [Corpus.load(folder, examples.vocabulary, examples.geometry) for folder in rates]
  for corpus in loaded[1:]:
    loaded[0].check_same_tokenizers(corpus)
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

  def make_dataset() -> tf.data.Dataset:
    # SeqIO's memory cache would become part of every saved position.
    dataset = seqio.Mixture("corpora", parts).get_dataset(
      examples.lengths, split, shuffle=True, seed=seed, num_epochs=None, try_in_mem_cache=False
    )
    dataset = examples.convert(dataset)
    return dataset.batch(batch_size, drop_remainder=True).with_options(_options())

  return TrainIterator(make_dataset, settings, loaded, split)


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
  corpus = Corpus.load(data_dir, examples.vocabulary, examples.geometry)
  corpus.paths(split)
  task = examples.make_task("evaluation", data_dir, SHUFFLE_BUFFER_SIZE)
  # Any seed will do: there is one draw to choose from.
  dataset = task.get_dataset(examples.lengths, split, shuffle=False, seed=0)
  dataset = examples.convert(dataset).batch(batch_size)
  try:
    for batch in dataset.with_options(_options()).as_numpy_iterator():
      yield fill(batch, batch_size)
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


def _options() -> tf.data.Options:
  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = _READER_THREADS
  options.threading.max_intra_op_parallelism = 1
  return options
