"""SeqIO task `singsong_fine`: chunks of 3 s, coarse codes in and fine codes out.

    import seqio, tasks.fine                           # SINGSONG_DATA_DIR=/where/prepare/wrote
    task = seqio.get_mixture_or_task("singsong_fine")
    task.get_dataset(split="train")                    # inputs [600], targets [1200], int32

It reads the instrumentals of the records that SingSong's tasks read: in train a chunk from anywhere in the
clip, another one every epoch; in validation and test the clip's first. `FineExamples.convert` makes the
decoder's sequence of a chunk; `singsong_jax/tokens/fine.py` draws it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import gin
import seqio
import tensorflow as tf

from singsong_jax.errors import InputError
from singsong_jax.tokens.fine import BOS_ID, FineLayout
from tasks import metrics, preprocessors
from tasks.corpus import Corpus
from tasks.source import SHUFFLE_BUFFER_SIZE, CorpusSource, convert_with_ids, default_data_dir


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class FineExamples:
  """What the fine stage is trained on; see `tasks.datasets.Examples`.

  Attributes:
    layout: of a chunk.
  """

  layout: FineLayout = FineLayout()

  tokenizers = ("codec",)  # no annotation: a class attribute, not a field

  def check(self, corpus: Corpus) -> None:
    layout, window_seconds = self.layout, corpus.schema.geometry.window_seconds
    corpus.check_made_for(
      {
        "num_acoustic_codes": layout.num_acoustic_codes,
        "num_acoustic_levels": layout.num_levels,
        "acoustic_rate_hz": layout.acoustic_rate_hz,
      }
    )
    if layout.chunk_seconds > window_seconds:
      raise InputError(
        f"chunk_seconds is {layout.chunk_seconds:g}, the clips of {corpus.data_dir} last {window_seconds:g} s"
      )

  @property
  def lengths(self) -> dict[str, int]:
    """The exact lengths of `inputs` and `targets`, as `seqio.get_dataset` takes them."""
    return {"inputs": self.layout.coarse_length, "targets": self.layout.fine_length}

  def make_task(
    self, name: str, data_dir: str | Callable[[], str], shuffle_buffer_size: int = SHUFFLE_BUFFER_SIZE
  ) -> seqio.Task:
    """A task over one data directory, not registered."""
    vocabulary = seqio.PassThroughVocabulary(self.layout.vocabulary_size)
    feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)
    return seqio.Task(
      name,
      source=CorpusSource(data_dir, self.check),
      output_features={"inputs": feature, "targets": feature},
      preprocessors=[
        preprocessors.record_to_codes(self.layout),
        seqio.CacheDatasetPlaceholder(),
        preprocessors.crop_chunk(self.layout),
        preprocessors.fixed_lengths(self.lengths),
      ],
      metric_fns=[metrics.token_accuracy],
      shuffle_buffer_size=shuffle_buffer_size,
    )

  def convert(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`inputs` and `targets` as one sequence, of which only the targets have loss weight."""
    converter = functools.partial(seqio.PrefixLMFeatureConverter, pack=False, bos_id=BOS_ID)
    rows = convert_with_ids(converter, dataset, self.lengths)
    names = rows.element_spec.keys() - {"decoder_causal_attention"}  # the coarse ids are read causally
    return rows.map(lambda row: {name: row[name] for name in names})

  def describe(self) -> dict[str, Any]:
    return dataclasses.asdict(self.layout)


def register_corpus(name: str, data_dir: str | Callable[[], str], **settings) -> str:
  """Registers `singsong_{name}_fine` and returns the name.

  Args:
    name: of the corpus; empty for the default one, whose task has no such part.
    data_dir: the folder, or a function that finds it when a dataset is made.
    **settings: of `FineExamples`.
  """
  task_name = "_".join(part for part in ("singsong", name, "fine") if part)
  seqio.TaskRegistry.add_provider(task_name, FineExamples(**settings).make_task(task_name, data_dir))
  return task_name


register_corpus("", default_data_dir)
