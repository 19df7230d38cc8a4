"""Makes a tokeniser's file of a trained w2v-BERT: fits semantic codes to its features.

  python -m data_pipelines.fit_semantics --model_dir=W2V --data_dir=DATA --output=semantics.npz

Hears the training songs of a data directory, noisy vocals and instrumentals, since one code book serves the
model's input and its target; or of a folder of audio, as they are. Features wait in a temporary file (TMPDIR
says where), 2 bytes for each dimension of each frame. The file is what
`data_pipelines.prepare --semantics=semantics.npz` reads.
"""

import itertools
import tempfile
from collections.abc import Iterator

import numpy as np
from absl import flags

from data_pipelines import progress
from singsong_jax import cli
from singsong_jax.audio.noise import add_noise
from singsong_jax.errors import InputError
from singsong_jax.semantics.quantizer import fit_quantizer
from singsong_jax.semantics.w2v_bert import W2vBertEncoder, W2vBertFeatures
from singsong_jax.systems import system_from_description
from singsong_jax.systems.w2v_bert import W2vBertSystem
from singsong_jax.tokens.featurization import NOISE_SIGMA
from singsong_jax.training.checkpoints import load_checkpoint
from tasks.audio_units import UNIT_SECONDS, AudioUnits, find_units

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "what `--system=w2v_bert` trained", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "data directory, or folder of audio files", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz", required=True)
_NUM_CODES = flags.DEFINE_integer("num_codes", 1024, "size of the code book", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "of the choice of clips, noise and k-means", lower_bound=0)
_STEP = flags.DEFINE_integer("step", None, "checkpoint; default: the newest")
_MAX_CLIPS = flags.DEFINE_integer("max_clips", None, "hear a random choice of so many", lower_bound=1)

_CLIPS = 8  # that the network hears at once
_BATCH_FRAMES = 8192  # of k-means
_ITERATIONS = 50


def main(_) -> None:
  encoder = fit(
    _MODEL_DIR.value,
    _DATA_DIR.value,
    num_codes=_NUM_CODES.value,
    seed=_SEED.value,
    step=_STEP.value,
    max_clips=_MAX_CLIPS.value,
  )
  encoder.save(_OUTPUT.value)
  source = encoder.source
  print(
    f"{_OUTPUT.value}: {encoder.frame_rate_hz:g} Hz, {encoder.num_codes} codes of step {source['step']}, "
    f"fitted to {source['frames']} frames of {source['clips']} clips"
  )


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
  with tempfile.TemporaryFile() as spool:
    with progress.bar(len(chosen), "hearing clips", "clip"):
      for clips in _batches_of_clips(_heard(units, chosen, extractor.config.sample_rate_hz, seed)):
        spool.write(np.float16(extractor.features(clips)).tobytes())
    spool.flush()
    features = np.memmap(spool, np.float16, "r").reshape(-1, extractor.config.emb_dim)
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
  for start in range(0, len(features), _BATCH_FRAMES):
    yield np.asarray(features[start : start + _BATCH_FRAMES], np.float32)
  progress.tick()


if __name__ == "__main__":
  cli.run(main)
