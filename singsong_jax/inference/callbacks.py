"""What a training run owes to listening: tokenisers beside the model, audio in TensorBoard."""

import pathlib
from collections.abc import Callable
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.inference.tokenizers import FOLDER, Tokenizers, ship_tokenizers
from singsong_jax.systems.base import Batch, Params
from singsong_jax.systems.fine import Fine
from singsong_jax.systems.singsong import SingSong
from singsong_jax.systems.soundstream import SoundStream

# (system, params, batch [B, …], keys [B]) -> name -> acoustic codes [B, frames, levels]
AudibleCodes = Callable[[Any, Params, Batch, jax.Array], dict[str, np.ndarray]]


@gin.configurable
def singsong_codes(system: SingSong, params: Params, batch: Batch, keys: jax.Array) -> dict[str, np.ndarray]:
  """The accompaniment as it is generated and as it is: codes to hear `[B, frames, levels]`."""
  generated = system.generate(params, batch, keys)
  ids = {"generated": generated, "reference": batch["decoder_target_tokens"]}
  return {name: system.target_layout.decode_heard(np.asarray(array)) for name, array in ids.items()}


@gin.configurable
def fine_codes(system: Fine, params: Params, batch: Batch, keys: jax.Array) -> dict[str, np.ndarray]:
  """Chunks with fine codes as they are generated and as they are `[B, frames, 12]`, and without `[…, 4]`."""
  generated = system.generate(params, batch, keys)
  reference = system.layout.decode(np.asarray(batch["decoder_target_tokens"]))
  return {
    "generated": system.layout.decode(np.asarray(generated)),
    "reference": reference,
    "coarse_only": reference[..., : system.layout.num_coarse_levels],
  }


@gin.configurable
class AudioSamples:
  """Training callback: ships the tokenisers with the model and writes audio at every evaluation.

  Attributes:
    data_dir: what the Beam job wrote; its tokenisers are shipped.
    codes: what there is to hear of a system, such as `singsong_codes`.
    num_samples: evaluation examples to generate; 0 writes no audio.
    seed: of the sampling; the same at every step, so that steps can be compared.
  """

  def __init__(self, *, data_dir: str, codes: AudibleCodes, num_samples: int = 1, seed: int = 0):
    self._tokenizers_dir = pathlib.Path(data_dir) / FOLDER
    self._codes = codes
    self._num_samples = num_samples
    self._seed = seed
    self._system = None
    self._tokenizers: Tokenizers | None = None

  def on_start(self, model_dir: str, system) -> None:
    self._tokenizers = ship_tokenizers(self._tokenizers_dir, model_dir)
    self._system = system

  def on_eval(self, step: int, params, eval_batch: dict[str, np.ndarray], writer) -> None:
    """Generates from the first rows of `eval_batch`; writes them and what they should have been."""
    if not self._num_samples:
      return
    rows = {name: array[: self._num_samples] for name, array in eval_batch.items()}
    keys = jax.random.split(jax.random.key(self._seed), len(rows["decoder_target_tokens"]))
    streams = self._system.target_layout.streams if isinstance(self._system, SingSong) else "a"
    codec = self._tokenizers.heard_through(streams)
    audios = {
      name: np.clip(codec.decode(codes), -1, 1)[..., None]  # [B, samples, 1]
      for name, codes in self._codes(self._system, params, rows, keys).items()
    }
    writer.write_audios(step, audios, sample_rate=codec.sample_rate_hz)


@gin.configurable
class ReconstructedAudio:
  """Training callback for codecs: at every evaluation, what they make of the first rows.

  Attributes:
    num_samples: rows of the first evaluation batch, heard one after another.
  """

  def __init__(self, *, num_samples: int = 8):
    self._num_samples = num_samples
    self._system: SoundStream | None = None

  def on_start(self, model_dir: str, system: SoundStream) -> None:
    self._system = system

  def on_eval(self, step: int, params, eval_batch: dict[str, np.ndarray], writer) -> None:
    """Writes the rows as they are, and from the coarse and from all levels."""
    waveforms = jnp.asarray(eval_batch["waveform"][: self._num_samples])
    network = self._system.network
    audios = {"reference": waveforms}
    for levels in (self._system.coarse_levels, network.num_levels):
      audios[f"levels_{levels}"] = self._system.reconstruct(params, waveforms, levels)
    joined = {name: np.clip(audio, -1, 1).reshape(1, -1, 1) for name, audio in audios.items()}
    writer.write_audios(step, joined, sample_rate=network.sample_rate_hz)
