"""SeqIO tasks `singsong_{clean,noisy}_{sa_sa,s_sa,a_a,sa_a,a_sa,s_s}`.

    import seqio, tasks.singsong                       # SINGSONG_DATA_DIR=/where/prepare/wrote
    task = seqio.get_mixture_or_task("singsong_noisy_s_sa")
    task.get_dataset(split="train")                    # inputs [250], targets [2250], int32

The data directory is looked up when a dataset is made: `SINGSONG_DATA_DIR`, or `data/` without it.
For other directories see `register_corpus` and `register_mixture`.

Ids never need an EOS, and id 0 never occurs. Use `feature_converter()`: SeqIO's default would
shift a 0 (pad) into the decoder instead of BOS, and pack examples into one another.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gin
import seqio
import tensorflow as tf

from singsong_jax.tokens.featurization import FEATURIZATIONS, NOISE_SIGMA, layouts
from singsong_jax.tokens.vocabulary import BOS_ID, Vocabulary
from singsong_jax.tokens.windows import Geometry
from tasks import metrics, preprocessors
from tasks.corpus import Corpus, record_sizes
from tasks.source import SHUFFLE_BUFFER_SIZE, CorpusSource, convert_with_ids, default_data_dir


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
  return seqio.Task(
    name,
    source=CorpusSource(data_dir, lambda corpus: _check(corpus, features, vocabulary, geometry)),
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


def _check(corpus: Corpus, features: str, vocabulary: Vocabulary, geometry: Geometry) -> None:
  corpus.check_made_for(record_sizes(vocabulary, geometry, _tokenizers(features)))


def _tokenizers(features: str) -> tuple[str, ...]:
  """Those whose codes are read or written."""
  streams = "".join(dataclasses.astuple(FEATURIZATIONS[features]))
  return tuple(part for stream, part in (("a", "codec"), ("s", "semantics")) if stream in streams)


def task_feature_lengths(
  features: str, vocabulary: Vocabulary = Vocabulary(), geometry: Geometry = Geometry()
) -> dict[str, int]:
  """The exact lengths of `inputs` and `targets`, as `seqio.get_dataset` takes them."""
  input_layout, target_layout = layouts(features, vocabulary, geometry)
  return {"inputs": input_layout.length, "targets": target_layout.length}


def feature_converter(**options) -> seqio.EncDecFeatureConverter:
  """Encoder-decoder batches without packing, with BOS as the first decoder input."""
  return seqio.EncDecFeatureConverter(pack=False, bos_id=BOS_ID, **options)


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class SingSongExamples:
  """What SingSong is trained on; see `tasks.datasets.Examples`.

  Attributes:
    vocals: `'clean'` or `'noisy'`.
    features: as in `FEATURIZATIONS`.
    vocabulary: the model's.
    geometry: the model's.
  """

  vocals: str
  features: str
  vocabulary: Vocabulary = Vocabulary()
  geometry: Geometry = Geometry()

  @property
  def lengths(self) -> dict[str, int]:
    return task_feature_lengths(self.features, self.vocabulary, self.geometry)

  def check(self, corpus: Corpus) -> None:
    _check(corpus, self.features, self.vocabulary, self.geometry)

  @property
  def tokenizers(self) -> tuple[str, ...]:
    return _tokenizers(self.features)

  def make_task(self, name: str, data_dir: str, shuffle_buffer_size: int) -> seqio.Task:
    return make_task(
      name,
      data_dir,
      self.vocals,
      self.features,
      vocabulary=self.vocabulary,
      geometry=self.geometry,
      shuffle_buffer_size=shuffle_buffer_size,
    )

  def convert(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    return convert_with_ids(feature_converter, dataset, self.lengths)

  def describe(self) -> dict[str, Any]:
    return {"vocals": self.vocals, "features": self.features}


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
