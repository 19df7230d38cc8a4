"""What a training run owes to listening: tokenisers beside the model, audio in TensorBoard."""

import pathlib

import gin
import jax
import numpy as np

from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.inference.tokenizers import FOLDER, Tokenizers, ship_tokenizers


@gin.configurable
class AudioSamples:
  """Training callback: ships the tokenisers with the model and writes audio at every evaluation.

  Attributes:
    data_dir: what the Beam job wrote; its tokenisers are shipped.
    num_samples: evaluation examples to generate; 0 writes no audio.
    seed: of the sampling; the same at every step, so that steps can be compared.
  """

  def __init__(self, *, data_dir: str, num_samples: int = 1, seed: int = 0):
    self._tokenizers_dir = pathlib.Path(data_dir) / FOLDER
    self._num_samples = num_samples
    self._seed = seed
    self._system = None
    self._tokenizers: Tokenizers | None = None

  def on_start(self, model_dir: str, system) -> None:
    self._tokenizers = ship_tokenizers(self._tokenizers_dir, model_dir)
    self._tokenizers.check(system.target_layout)
    self._system = system

  def on_eval(self, step: int, params, eval_batch: dict[str, np.ndarray], writer) -> None:
    """Generates from the first rows of `eval_batch`; writes them and the true instrumentals."""
    rows = {name: array[: self._num_samples] for name, array in eval_batch.items()}
    count = len(rows["encoder_input_tokens"])
    if not count:
      return
    keys = jax.random.split(jax.random.key(self._seed), count)
    generated = self._system.generate(params, rows, keys, SamplingOptions())
    audios = {
      "generated": self._decode(generated),
      "reference": self._decode(rows["decoder_target_tokens"]),
    }
    writer.write_audios(step, audios, sample_rate=self._tokenizers.codec.sample_rate_hz)

  def _decode(self, ids) -> np.ndarray:
    """Target ids `[B, T]` to audio `[B, samples, 1]`, within ±1."""
    _, coarse = self._system.target_layout.decode(np.asarray(ids))
    return np.clip(self._tokenizers.codec.decode(coarse), -1, 1)[..., None]
