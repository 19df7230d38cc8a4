"""Batches of audio for the systems that are trained on waveforms: the codec and the semantic encoder.

A batch is float32 numpy: `waveform [B, samples]`, full scale ±1, and `weight [B]`, 0 on filler rows of an
evaluation; `ids [B]` (bytes) says where a row is from.

Audio comes from a data directory of `data_pipelines.prepare` (its `clips/`: vocals, instrumental, and their
sum, the mix), or from a folder of audio files of any kind and rate. Either is a list of units of at most 10
s; an epoch goes through all units in a random order and takes one random segment of each.
"""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from singsong_jax.audio.noise import add_noise
from singsong_jax.errors import InputError
from singsong_jax.tokens.featurization import NOISE_SIGMA
from tasks.audio_units import AudioUnits, find_units
from tasks.datasets import TrainIterator, options

_STREAMS = ("vocals", "noisy_vocals", "instrumental", "mix")
_PROBED_UNITS = 64
_SILENT = 1e-4  # peak: −80 dB
_CLIPPED_SHARE = 1e-3  # of the samples at full scale
_TRIES = 8  # for a segment that is not silent
Batch = dict[str, np.ndarray]


@gin.configurable(module="tasks.audio")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioExamples:
  """What is heard of the audio.

  Attributes:
    sample_rate_hz: audio of another rate is resampled.
    segment_seconds: length of an example.
    streams: which of 'vocals', 'noisy_vocals', 'instrumental', 'mix' are heard of a data directory, equally
      often. A folder's files are heard as they are, for 'noisy_vocals' with noise.
    noise: of 'noisy_vocals', as in `tokens.featurization.NOISE_SIGMA`.
    min_gain_db: examples are made quieter by up to this, drawn evenly in dB.
  """

  sample_rate_hz: int = 16_000
  segment_seconds: float = 1.0
  streams: tuple[str, ...] = ("vocals", "instrumental", "mix")
  noise: str = "noisy"
  min_gain_db: float = 0.0

  def __post_init__(self):
    object.__setattr__(self, "streams", tuple(self.streams))
    if self.segment_samples < 1 or not self.streams or self.min_gain_db > 0:
      raise InputError(
        f"AudioExamples needs a segment, a stream and a gain of 0 dB or less; got segment_seconds="
        f"{self.segment_seconds}, streams={self.streams}, min_gain_db={self.min_gain_db}"
      )
    if unknown := set(self.streams) - set(_STREAMS):
      raise InputError(f"AudioExamples.streams has {sorted(unknown)[0]!r}; there are {', '.join(_STREAMS)}")

  @property
  def segment_samples(self) -> int:
    return round(self.segment_seconds * self.sample_rate_hz)

  def random_segment(self, units: AudioUnits, index: int, seed: int) -> np.ndarray:
    """A segment of a unit, float32 `[segment_samples]`; silence only where the unit has little else."""
    rng = np.random.default_rng(seed)
    for _ in range(_TRIES):
      stream = self.streams[rng.integers(len(self.streams))]
      segment = self._segment(units, index, stream, rng.random(), int(rng.integers(2**32)))
      if np.abs(segment).max() > _SILENT:
        break
    return segment * np.float32(10 ** (rng.uniform(self.min_gain_db, 0) / 20))

  def first_segment(self, units: AudioUnits, index: int) -> np.ndarray:
    """The beginning of a unit, its stream by the unit's number."""
    return self._segment(units, index, self.streams[index % len(self.streams)], 0.0, index)

  def _segment(self, units: AudioUnits, index: int, stream: str, place: float, noise_seed: int) -> np.ndarray:
    is_noisy = stream == "noisy_vocals"
    waveform = units.read(
      index, "vocals" if is_noisy else stream, self.sample_rate_hz, self.segment_seconds, place
    )
    waveform = np.pad(waveform, (0, max(0, self.segment_samples - len(waveform))))[: self.segment_samples]
    return add_noise(waveform, NOISE_SIGMA[self.noise], noise_seed) if is_noisy else waveform

  def describe(self) -> dict[str, Any]:
    """As JSON: what tells these examples from others of the same audio."""
    return {**dataclasses.asdict(self), "streams": list(self.streams)}


@gin.configurable(module="tasks.audio")
def audio_iterator(
  part: int = 0,
  num_parts: int = 1,
  *,
  data_dir: str,
  examples: AudioExamples,
  batch_size: int,
  seed: int,
  split: str = "train",
  num_readers: int | None = None,
) -> TrainIterator:
  """Batches without end, with a position that is saved and restored exactly; see `datasets.train_iterator`.

  Args:
    data_dir: a data directory, or a folder of audio files. Songs go to splits by the hash of their name.

  Raises:
    InputError: no audio, nothing but silence, or fewer units than readers.
  """
  units = find_units(data_dir, split)
  probe(units, examples, seed)
  settings = {
    "data": units.fingerprint(),
    **examples.describe(),
    "batch_size": batch_size,
    "seed": seed,
    "split": split,
  }

  def load(index, place):
    draw = np.random.SeedSequence((seed, int(index), int(place))).generate_state(1)[0]
    return examples.random_segment(units, int(index), int(draw)), units.name(int(index)).encode()

  def make_reader(index: int, readers: int) -> tf.data.Dataset:
    mine = np.arange(index, len(units), readers, dtype=np.int64)
    if not len(mine):
      raise InputError(
        f"{data_dir} has {len(units)} pieces of audio for {readers} readers; start fewer processes"
      )
    order = tf.data.Dataset.from_tensor_slices(mine).shuffle(len(mine), seed=seed + index).repeat()
    numbered = tf.data.Dataset.zip(order, tf.data.Dataset.counter())
    return _batches(numbered, load, examples, batch_size // readers).with_options(options())

  return TrainIterator(make_reader, settings, [], split, part, num_parts, num_readers)


@gin.configurable(module="tasks.audio")
def audio_batches(
  *, data_dir: str, examples: AudioExamples, batch_size: int, split: str = "validation"
) -> Iterator[Batch]:
  """The same batches every time: the beginning of every unit; a last batch is filled up with weight 0.

  Raises:
    InputError: as `audio_iterator`.
  """
  units = find_units(data_dir, split)
  for start in range(0, len(units), batch_size):
    indices = range(start, min(start + batch_size, len(units)))
    rows = np.stack([examples.first_segment(units, index) for index in indices])
    yield {
      "waveform": np.resize(rows, (batch_size, *rows.shape[1:])),
      "weight": (np.arange(batch_size) < len(rows)).astype(np.float32),
      "ids": np.array([units.name(index).encode() for index in np.resize(indices, batch_size)]),
    }


def probe(units: AudioUnits, examples: AudioExamples, seed: int) -> None:
  """Listens to some units before training does.

  Raises:
    InputError: not one of them has anything but silence.
  """
  chosen = np.random.default_rng(seed).permutation(len(units))[:_PROBED_UNITS]
  segments = [examples.random_segment(units, int(index), seed) for index in chosen]
  if all(np.abs(segment).max() <= _SILENT for segment in segments):
    raise InputError(
      f"{units.root}: {len(chosen)} pieces of audio were heard and all are silent (below −80 dB)"
    )
  clipped = sum(np.mean(np.abs(segment) >= 0.999) > _CLIPPED_SHARE for segment in segments)
  if clipped > len(chosen) / 10:
    print(
      f"WARNING: {clipped} of {len(chosen)} pieces of {units.root} are clipped (samples at full scale): a "
      "model will learn the distortion",
      file=sys.stderr,
    )


def _batches(numbered: tf.data.Dataset, load, examples: AudioExamples, rows: int) -> tf.data.Dataset:
  def read(index, place):
    waveform, name = tf.numpy_function(load, (index, place), (tf.float32, tf.string), stateful=False)
    waveform.set_shape([examples.segment_samples])
    name.set_shape([])
    return {"waveform": waveform, "weight": tf.ones(()), "ids": name}

  return (
    numbered.map(read, num_parallel_calls=2, deterministic=True).batch(rows, drop_remainder=True).prefetch(2)
  )
