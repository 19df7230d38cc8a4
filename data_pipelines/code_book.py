"""A code book for a trained w2v-BERT, fitted to what it hears in the training songs; see `fit_semantics`."""

import contextlib
import itertools
from collections.abc import Iterator

import numpy as np

from data_pipelines import progress
from singsong_jax.audio.noise import add_noise
from singsong_jax.errors import InputError
from singsong_jax.semantics.quantizer import batches, fit_quantizer, spooled
from singsong_jax.semantics.w2v_bert import W2vBertEncoder, W2vBertFeatures
from singsong_jax.systems import system_from_description
from singsong_jax.systems.w2v_bert import W2vBertSystem
from singsong_jax.tokens.featurization import NOISE_SIGMA
from singsong_jax.training.checkpoints import load_checkpoint
from tasks.audio_units import UNIT_SECONDS, AudioUnits, find_units

_CLIPS = 8  # that the network hears at once
_ITERATIONS = 50


def fit(
  model_dir: str,
  data_dir: str,
  *,
  num_codes: int = 1024,
  seed: int = 0,
  step: int | None = None,
  max_clips: int | None = None,
) -> W2vBertEncoder:
  """The encoder of a checkpoint, with a code book fitted to `data_dir`.

  Raises:
    InputError: there is no checkpoint, or it is another system's; there is no audio, or only silence; or
      it has fewer frames than codes.
  """
  system, params, step = load_checkpoint(model_dir, step, system_from_description)
  if not isinstance(system, W2vBertSystem):
    raise InputError(f"{model_dir} holds a model of the system {system.name!r}, not an encoder's: 'w2v_bert'")
  try:
    extractor = W2vBertFeatures.from_params(system.network, params)
  except ValueError as error:
    raise InputError(f"step {step} of {model_dir} makes no encoder: {error}") from error
  units = find_units(data_dir, "train")
  chosen = np.sort(np.random.default_rng(seed).permutation(len(units))[:max_clips])
  heard = _heard(units, chosen, extractor.config.sample_rate_hz, seed)
  parts = (extractor.features(clips) for clips in _batches_of_clips(heard))
  with contextlib.ExitStack() as stack:
    with progress.bar(len(chosen), "hearing clips", "clip"):
      features = stack.enter_context(spooled(parts, extractor.config.emb_dim, np.float16))
    with progress.bar(1 + _ITERATIONS, "fitting codes, at most", "pass"):
      quantizer = fit_quantizer(lambda: _pass(features), num_codes, seed=seed, iterations=_ITERATIONS)
    source = {
      "system": system.describe(),
      "step": step,
      "songs": units.fingerprint(),
      "clips": len(chosen),
      "frames": len(features),
      "seed": seed,
    }
  return W2vBertEncoder.from_parts(extractor, quantizer, source)


def _heard(units: AudioUnits, chosen: np.ndarray, rate_hz: int, seed: int) -> Iterator[np.ndarray]:
  """What is heard of each unit: float32 `[samples]`. Raises InputError where all is silent."""
  silent = True
  for index in map(int, chosen):
    for stream in ("vocals", "instrumental") if units.are_clips else ("mix",):
      waveform = units.read(index, stream, rate_hz, UNIT_SECONDS, 0.0)
      silent = silent and not np.any(waveform)
      yield add_noise(waveform, NOISE_SIGMA["noisy"], (seed, index)) if stream == "vocals" else waveform
    progress.tick()
  if silent:
    raise InputError(f"cannot fit semantic codes: all {len(chosen)} clips of {units.root} are silent")


def _batches_of_clips(clips: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
  """Successive clips of equal length: float32 `[≤ 8, samples]`."""
  for _, equal in itertools.groupby(clips, len):
    while batch := list(itertools.islice(equal, _CLIPS)):
      yield np.stack(batch)


def _pass(features: np.ndarray) -> Iterator[np.ndarray]:
  yield from batches(features)
  progress.tick()
