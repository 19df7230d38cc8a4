"""Negative log-likelihood of true instrumentals (SingSong Appendix A): NLLi with isolated vocals, NLLs with
separated ones.

Nats per coarse acoustic code, teacher-forced, with the temperature at 1. The softmax is over the whole
vocabulary, as in training and, as far as it says, in the paper; `…_masked` is over the legal ids of a
position alone. What is measured depends on the codec: numbers of models with other codes cannot be compared.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from singsong_jax.audio.noise import add_noise
from singsong_jax.audio.resampling import resample
from singsong_jax.errors import InputError
from singsong_jax.inference.models import Models
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.featurization import NOISE_SIGMA, SequenceLayout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood:
  """Means over all coarse codes; over the semantic ones where a model makes no others.

  Attributes:
    nll, nll_masked: nats per code.
    windows: of the model's length, whose number of codes is the same.
    too_short: clips that have no whole window, and count nothing.
  """

  nll: float
  nll_masked: float
  windows: int
  too_short: int


def encode(
  models: Models, vocals: np.ndarray, instrumental: np.ndarray, rate_hz: int, seed: int = 0
) -> dict[str, np.ndarray] | None:
  """A clip's whole windows as rows of a batch; what is left over counts nothing.

  Args:
    vocals, instrumental: float `[samples]` at `rate_hz`.
    seed: of the noise that a model for noisy vocals hears.

  Returns:
    int32 `encoder_input_tokens [W, S]`, and `decoder_target_tokens`, `decoder_input_tokens`,
    `decoder_loss_weights [W, T]`. None for a clip that is shorter than one window.
  """
  system: SingSong = models.coarse.system
  window_seconds = system.target_layout.geometry.window_seconds
  seconds = min(len(vocals), len(instrumental)) / rate_hz
  windows = int(seconds / window_seconds + 1e-6)
  if not windows:
    return None

  def ids(waveform: np.ndarray, layout: SequenceLayout, sigma: float) -> np.ndarray:
    codes = {}
    for stream, tokenizer in (("s", models.tokenizers.semantics), ("a", models.tokenizers.codec)):
      if stream in layout.streams:
        heard = resample(np.asarray(waveform, np.float32), rate_hz, tokenizer.sample_rate_hz)
        length = round(window_seconds * tokenizer.sample_rate_hz)
        cut = heard[: windows * length].reshape(windows, length)
        noisy = [add_noise(window, sigma, (seed, i)) for i, window in enumerate(cut)]
        codes[stream] = tokenizer.encode(np.stack(noisy))
    return layout.encode(codes.get("s"), codes.get("a"))

  targets = ids(instrumental, system.target_layout, 0.0)
  first = np.full((windows, 1), system.bos_id, np.int32)
  return {
    "encoder_input_tokens": ids(vocals, system.input_layout, NOISE_SIGMA[system.vocals]),
    "decoder_input_tokens": np.concatenate([first, targets[:, :-1]], axis=1),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": np.ones_like(targets),
  }


def likelihood(
  models: Models, rows: Sequence[dict[str, np.ndarray] | None], batch_size: int = 8
) -> Likelihood | None:
  """Of clips as `encode` gives them. None where all are too short; raises InputError for no clips."""
  if not rows:
    raise InputError("there are no clips to take the likelihood of")
  whole = [row for row in rows if row is not None]
  if not whole:
    return None
  system: SingSong = models.coarse.system
  evaluate = jax.jit(lambda params, batch: system.loss(params, batch, None)[1])
  stage = "coarse" if system.target_layout.coarse_length else "semantic"
  sums = {name: np.zeros(2) for name in (f"nll_{stage}", f"nll_{stage}_masked")}
  windows = 0
  for batch, real in _batches(whole, batch_size):
    windows += real
    found = evaluate(models.coarse.params, batch)
    for name in sums:
      sums[name] += np.array(found[name], np.float64)
  nll, masked = (float(total / weight) for total, weight in sums.values())
  return Likelihood(nll=nll, nll_masked=masked, windows=windows, too_short=len(rows) - len(whole))


def _batches(rows, batch_size):
  """Batches of one shape, the last filled up with rows of weight 0, and how many of each are real."""
  waiting: dict[str, np.ndarray] = {}
  for clip in rows:
    waiting = {name: np.concatenate([waiting[name], clip[name]]) if waiting else clip[name] for name in clip}
    while len(waiting["decoder_loss_weights"]) >= batch_size:
      yield {name: array[:batch_size] for name, array in waiting.items()}, batch_size
      waiting = {name: array[batch_size:] for name, array in waiting.items()}
  real = len(waiting["decoder_loss_weights"]) if waiting else 0
  if real:
    filled = {name: np.resize(array, (batch_size, array.shape[1])) for name, array in waiting.items()}
    filled["decoder_loss_weights"][real:] = 0
    yield filled, real
