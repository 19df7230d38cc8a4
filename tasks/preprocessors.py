"""From a parsed record to `inputs` and `targets`.

    SingSong    record ─ record_to_ids ─→ candidates [R, S], targets [T]
                       ─ (SeqIO's cache) ─ draw_inputs ─→ inputs [S], targets [T]
    fine stage  record ─ record_to_codes ─→ codes [frames, levels]
                       ─ (SeqIO's cache) ─ crop_chunk ─→ inputs [coarse length], targets [fine length]

id = block start of the position + code (`tokens/featurization.py`, `tokens/fine.py`). For Clean R = 1.
What is random comes after the cache, so that every epoch hears fresh noise and other chunks.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from singsong_jax.errors import InputError
from singsong_jax.tokens.featurization import SequenceLayout
from singsong_jax.tokens.fine import FineLayout
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
      "num_choices": _in_training(record, record["num_noise_draws"] if vocals == "noisy" else 1),
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
  _check_codes(record, codes, layout.block_sizes, f"{source}{suffix}")
  return codes + layout.block_starts


def record_to_codes(layout: FineLayout):
  """The SeqIO preprocessor that takes the instrumental's codes `[frames, levels]` from a record.

  It keeps `clip_id`, and passes `num_choices` on: at how many frames a chunk may begin.
  Faults raise as in `record_to_ids`.
  """

  @seqio.map_over_dataset
  def to_codes(record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    _check_version(record)
    codes = tf.cast(tf.reshape(record["instrumental_acoustic"], [-1, layout.num_levels]), tf.int32)
    _check_codes(record, codes, layout.num_acoustic_codes, "instrumental_acoustic")
    num_choices = _in_training(record, tf.shape(codes)[0] - layout.frames + 1)
    return {"codes": codes, "num_choices": num_choices, "clip_id": record["clip_id"]}

  return to_codes


def crop_chunk(layout: FineLayout):
  """The SeqIO preprocessor that draws a chunk: coarse ids are its `inputs`, fine ids its `targets`."""

  @seqio.map_over_dataset(num_seeds=1)
  def crop(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
    start = _draw(example, seed)
    chunk = example["codes"][start : start + layout.frames]  # [frames, levels]
    coarse, fine = chunk[:, : layout.num_coarse_levels], chunk[:, layout.num_coarse_levels :]
    ids = tf.concat([tf.reshape(coarse, [-1]), tf.reshape(fine, [-1])], axis=0) + layout.block_starts
    return {
      "inputs": ids[: layout.coarse_length],
      "targets": ids[layout.coarse_length :],
      "clip_id": example["clip_id"],
    }

  return crop


def _in_training(record: Mapping[str, tf.Tensor], num_choices: tf.Tensor | int) -> tf.Tensor:
  """`num_choices` in train, 1 in evaluation: int32."""
  return tf.where(record["is_training"], tf.cast(num_choices, tf.int32), 1)


def _draw(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
  """One of `0 … num_choices - 1`; 0 where there is one."""
  return tf.random.stateless_uniform([], seed, 0, example["num_choices"], tf.int32)


def _check_codes(record: Mapping[str, tf.Tensor], codes: tf.Tensor, limits, what: str) -> None:
  legal = (codes >= 0) & (codes < limits)
  tf.debugging.Assert(tf.reduce_all(legal), [record["clip_id"], f"{what} has illegal codes"])


def _check_version(record: Mapping[str, tf.Tensor]) -> None:
  version = record["schema_version"]
  message = f"has a schema_version other than {schema.VERSION}:"
  tf.debugging.Assert(version == schema.VERSION, [record["clip_id"], message, version])


@seqio.map_over_dataset(num_seeds=1)
def draw_inputs(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
  """Picks one of the first `num_choices` candidates as `inputs` [S]; draw 0 where there is one."""
  return {
    "inputs": example["candidates"][_draw(example, seed)],
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
