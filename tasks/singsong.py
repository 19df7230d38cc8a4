"""SeqIO tasks `singsong_{clean,noisy}_{sa_sa,s_sa,a_a,sa_a,a_sa}`.

    import seqio, tasks.singsong                       # SINGSONG_DATA_DIR=/where/prepare/wrote
    task = seqio.get_mixture_or_task("singsong_noisy_s_sa")
    task.get_dataset(split="train")                    # inputs [250], targets [2250], int32

The data directory is looked up when a dataset is made: `SINGSONG_DATA_DIR`, or `data/` without it.
For other directories see `register_corpus` and `register_mixture`.

Ids never need an EOS, and id 0 never occurs. Use `feature_converter()`: SeqIO's default would
shift a 0 (pad) into the decoder instead of BOS, and pack examples into one another.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping

import seqio
import tensorflow as tf

from singsong_jax.tokens.featurization import FEATURIZATIONS, NOISE_SIGMA, layouts
from singsong_jax.tokens.vocabulary import BOS_ID, Vocabulary
from singsong_jax.tokens.windows import Geometry
from tasks import metrics, preprocessors
from tasks.corpus import Corpus
from tasks.schema import SPLITS

SHUFFLE_BUFFER_SIZE = 1024  # examples of ~10 kB each


def default_data_dir() -> str:
  """`SINGSONG_DATA_DIR`, or `data`."""
  return os.environ.get("SINGSONG_DATA_DIR", "data")


class CorpusSource(seqio.FileDataSource):
  """Records of a data directory, which is found and checked only when it is read.

  Each parsed record gets `num_choices` (int32): in train all noisy draws may be chosen, in
  validation and test only the first, so that evaluations can be compared.
  """

  def __init__(self, data_dir: Callable[[], str], vocabulary: Vocabulary, geometry: Geometry):
    self._data_dir = data_dir
    self._expected = (vocabulary, geometry)
    super().__init__(read_file_fn=self._read, split_to_filepattern=dict.fromkeys(SPLITS, ""))

  @property
  def corpus(self) -> Corpus:
    """Raises InputError where there is none, or one for another model."""
    return Corpus.load(self._data_dir(), *self._expected)

  @property
  def splits(self) -> list[str]:
    """Those with records: what SeqIO caches, mixes and evaluates."""
    return [split for split, records in self.corpus.num_records.items() if records]

  def list_shards(self, split: str) -> list[str]:
    return [str(path) for path in self.corpus.paths(split)]

  def num_input_examples(self, split: str) -> int:
    return self.corpus.num_records[split]

  def get_dataset(self, split: str = "train", *args, **kwargs) -> tf.data.Dataset:
    num_choices = self.corpus.schema.num_noise_draws if split == "train" else 1
    dataset = super().get_dataset(split, *args, **kwargs)
    return dataset.map(lambda record: {**record, "num_choices": tf.constant(num_choices, tf.int32)})

  def _read(self, path: tf.Tensor) -> tf.data.Dataset:
    description = self.corpus.schema.feature_description
    return tf.data.TFRecordDataset(path).map(lambda x: tf.io.parse_single_example(x, description))


def make_task(
  name: str,
  data_dir: str | Callable[[], str],
  vocals: str,
  features: str,
  *,
  vocabulary: Vocabulary = Vocabulary(),
  geometry: Geometry = Geometry(),
  shuffle_buffer_size: int = SHUFFLE_BUFFER_SIZE,
) -> seqio.Task:
  """A task over one data directory, not registered.

  Raises:
    ValueError: unknown `vocals` or `features`.
  """
  if vocals not in NOISE_SIGMA:
    raise ValueError(f"unknown vocals {vocals!r}; choose one of {', '.join(NOISE_SIGMA)}")
  input_layout, target_layout = layouts(features, vocabulary, geometry)
  feature = seqio.Feature(seqio.PassThroughVocabulary(vocabulary.size), add_eos=False, dtype=tf.int32)
  find = data_dir if callable(data_dir) else lambda: str(data_dir)
  return seqio.Task(
    name,
    source=CorpusSource(find, vocabulary, geometry),
    output_features={"inputs": feature, "targets": feature},
    preprocessors=[
      preprocessors.record_to_ids(input_layout, target_layout, vocals),
      seqio.CacheDatasetPlaceholder(),
      preprocessors.draw_inputs,
      preprocessors.fixed_lengths(task_feature_lengths(features, vocabulary, geometry)),
    ],
    metric_fns=[metrics.token_accuracy, metrics.legal_fraction(target_layout)],
    shuffle_buffer_size=shuffle_buffer_size,
  )


def task_feature_lengths(
  features: str, vocabulary: Vocabulary = Vocabulary(), geometry: Geometry = Geometry()
) -> dict[str, int]:
  """The exact lengths of `inputs` and `targets`, as `seqio.get_dataset` takes them."""
  input_layout, target_layout = layouts(features, vocabulary, geometry)
  return {"inputs": input_layout.length, "targets": target_layout.length}


def feature_converter() -> seqio.EncDecFeatureConverter:
  """Encoder-decoder batches without packing, with BOS as the first decoder input."""
  return seqio.EncDecFeatureConverter(pack=False, bos_id=BOS_ID)


def combinations() -> Iterable[tuple[str, str]]:
  """Every (vocals, features)."""
  return itertools.product(NOISE_SIGMA, FEATURIZATIONS)


def register_corpus(name: str, data_dir: str | Callable[[], str], **options) -> list[str]:
  """Registers `singsong_{name}_{vocals}_{features}` for every combination and returns the names.

  Args:
    name: of the corpus; empty for the default one, whose tasks have no such part.
    data_dir: the folder, or a function that finds it when a dataset is made.
    **options: as for `make_task`.
  """
  names = []
  for vocals, features in combinations():
    task_name = _task_name(name, vocals, features)
    seqio.TaskRegistry.add_provider(task_name, make_task(task_name, data_dir, vocals, features, **options))
    names.append(task_name)
  return names


def register_mixture(name: str, rates: Mapping[str, float]) -> list[str]:
  """Registers `singsong_{name}_{vocals}_{features}` over registered corpora and returns the names.

  Args:
    name: of the mixture.
    rates: corpus name → relative number of examples drawn from it.
  """
  names = []
  for vocals, features in combinations():
    mixture = _task_name(name, vocals, features)
    members = [(_task_name(corpus, vocals, features), rate) for corpus, rate in rates.items()]
    seqio.MixtureRegistry.add(mixture, members)
    names.append(mixture)
  return names


def _task_name(corpus: str, vocals: str, features: str) -> str:
  return "_".join(part for part in ("singsong", corpus, vocals, features) if part)


register_corpus("", default_data_dir)
