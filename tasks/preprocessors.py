"""From a parsed record to `inputs` and `targets`.

    record ─ record_to_ids ─→ candidates [R, S], targets [T]
           ─ (SeqIO's cache) ─ draw_inputs ─→ inputs [S], targets [T]

id = block start of the position + code (`singsong_jax/tokens/featurization.py`). For Clean R = 1.
Drawing comes after the cache, so that every epoch hears fresh noise.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from singsong_jax.errors import InputError
from singsong_jax.tokens.featurization import SequenceLayout
from tasks import schema


def record_to_ids(input_layout: SequenceLayout, target_layout: SequenceLayout, vocals: str):
  """The SeqIO preprocessor that turns the codes of a record into ids.

  It keeps `clip_id`, and passes `num_choices` on: how many noisy draws may be chosen from.
  A record of another schema version or with an illegal code raises `tf.errors.InvalidArgumentError`.
  """

  @seqio.map_over_dataset
  def to_ids(record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    _check_version(record)
    candidates = _ids(record, input_layout, "vocals", f"_{vocals}")  # [R, S]
    targets = _ids(record, target_layout, "instrumental", "")  # [1, T]
    return {
      "candidates": candidates,
      "targets": targets[0],
      "num_choices": record["num_choices"] if vocals == "noisy" else tf.constant(1, tf.int32),
      "clip_id": record["clip_id"],
    }

  return to_ids


def _ids(record, layout: SequenceLayout, source: str, suffix: str) -> tf.Tensor:
  """int32 `[draws, layout.length]`."""
  geometry, levels = layout.geometry, layout.vocabulary.num_coarse_levels
  parts = []
  if "s" in layout.streams:
    parts.append(tf.reshape(record[f"{source}_semantic{suffix}"], [-1, geometry.semantic_frames]))
  if "a" in layout.streams:
    shape = [-1, geometry.acoustic_frames, geometry.num_acoustic_levels]
    coarse = tf.reshape(record[f"{source}_acoustic{suffix}"], shape)[..., :levels]
    parts.append(tf.reshape(coarse, [-1, layout.coarse_length]))
  codes = tf.cast(tf.concat(parts, axis=1), tf.int32)
  legal = (codes >= 0) & (codes < layout.block_sizes)
  tf.debugging.Assert(tf.reduce_all(legal), [record["clip_id"], f"{source}{suffix} has illegal codes"])
  return codes + layout.block_starts


def _check_version(record: Mapping[str, tf.Tensor]) -> None:
  version = record["schema_version"]
  message = f"has a schema_version other than {schema.VERSION}:"
  tf.debugging.Assert(version == schema.VERSION, [record["clip_id"], message, version])


@seqio.map_over_dataset(num_seeds=1)
def draw_inputs(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
  """Picks one of the first `num_choices` candidates as `inputs` [S]; draw 0 where there is one."""
  draw = tf.random.stateless_uniform([], seed, 0, example["num_choices"], tf.int32)
  return {
    "inputs": example["candidates"][draw],
    "targets": example["targets"],
    "clip_id": example["clip_id"],
  }


def fixed_lengths(lengths: Mapping[str, int]):
  """The SeqIO preprocessor that states the exact lengths and refuses to have sequences trimmed.

  SeqIO trims to `sequence_length` without a word; here that would cut audio off a clip. Longer
  ones are fine: padding has id 0 and loss weight 0.
  """

  def check(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None = None) -> tf.data.Dataset:
    for name, length in lengths.items():
      asked = (sequence_length or {}).get(name)
      if asked is not None and asked < length:
        raise InputError(f"sequence_length[{name!r}] is {asked}, but every example has exactly {length}")
    return dataset.map(lambda x: {**x, **{k: tf.ensure_shape(x[k], [n]) for k, n in lengths.items()}})

  return check
