"""A trained model as one call: a vocal goes in, an instrumental and a mix come out."""

import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from singsong_jax.audio.io import resample, to_mono
from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.mixing import limit_peak, mix
from singsong_jax.audio.noise import add_noise
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference.tokenizers import FOLDER, Tokenizers, load_tokenizers
from singsong_jax.systems import system_from_description
from singsong_jax.tokens.featurization import NOISE_SIGMA
from singsong_jax.tokens.windows import cut_window, window_starts
from singsong_jax.training.checkpoints import load_checkpoint

MIN_SECONDS = 0.5
MAX_SECONDS = 600.0
SILENCE_DB = -60.0
MAX_BATCH = 8  # windows decoded at once


@dataclasses.dataclass(frozen=True)
class Accompaniment:
  """What `Accompanist.accompany` returns; waveforms at the rate and length of the input.

  Attributes:
    instrumental: float32 `[samples]`, mono as the codec is, within ±1.
    mix: float32 `[channels, samples]`: vocals + instrumental, scaled as a whole where it would clip.
    details: JSON-able record of what was done.
  """

  instrumental: np.ndarray
  mix: np.ndarray
  details: dict[str, Any]


class Accompanist:
  """SingSong inference (§3.3): sample semantic and coarse codes, decode the coarse ones, mix."""

  def __init__(self, system, params, tokenizers: Tokenizers, step: int):
    tokenizers.check(system.target_layout)
    self.system = system
    self.step = step
    self._params = params
    self._tokenizers = tokenizers

  @classmethod
  def from_checkpoint(cls, model_dir: str | os.PathLike, step: int | None = None) -> "Accompanist":
    """Loads the newest checkpoint of `model_dir`, or that of `step`.

    Raises:
      InputError: no such directory, checkpoint or tokeniser, or one that does not fit the model.
    """
    system, params, step = load_checkpoint(model_dir, step, system_from_description)
    return cls(system, params, load_tokenizers(pathlib.Path(model_dir) / FOLDER), step)

  def accompany(
    self,
    waveform: np.ndarray,
    sample_rate_hz: int,
    *,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    max_seconds: float = MAX_SECONDS,
  ) -> Accompaniment:
    """Makes the instrumental for a vocal.

    The vocal is resampled to the codec's rate, noised as in training (§3.4), cut into consecutive
    windows, each of which is generated on its own; the instrumental is added to the original vocal.

    Args:
      waveform: vocals, float32 `[channels, samples]`, 1 or 2 channels.
      sample_rate_hz: its rate.
      seed: of the noise and of the sampling; the same seed gives the same samples.
      options: temperature and the like.
      max_seconds: longer vocals are refused.

    Raises:
      InputError: too short, too long, silent, not finite, or more than two channels.
    """
    check_vocals(waveform, sample_rate_hz, max_seconds)
    windows = self._windows(waveform, sample_rate_hz)
    inputs = self._encode(windows, seed)
    ids = self._generate(inputs, seed, options)
    decoded = self._decode(ids, waveform.shape[-1], sample_rate_hz)
    instrumental, instrumental_gain = limit_peak(decoded)
    mixture, mix_gain = mix(waveform, instrumental)
    details = {
      "seed": seed,
      "sampling": dataclasses.asdict(options),
      "checkpoint_step": self.step,
      "system": self.system.describe(),
      "codec": self._tokenizers.codec.fingerprint(),
      "semantics": self._tokenizers.semantics.fingerprint(),
      "sample_rate_hz": sample_rate_hz,
      "seconds": waveform.shape[-1] / sample_rate_hz,
      "windows": len(windows),
      "noise_sigma": NOISE_SIGMA[self.system.vocals],
      "instrumental_gain": instrumental_gain,
      "mix_gain": mix_gain,
    }
    return Accompaniment(instrumental, mixture, details)

  def _windows(self, waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    geometry = self.system.input_layout.geometry
    mono = resample(to_mono(waveform), sample_rate_hz, geometry.sample_rate_hz)
    starts = window_starts(mono.shape[-1], geometry.window_samples, geometry.window_samples)
    return np.stack([cut_window(mono, start, geometry.window_samples) for start in starts])

  def _encode(self, windows: np.ndarray, seed: int) -> np.ndarray:
    """Windows `[W, samples]` to encoder inputs, int32 `[W, input length]`."""
    layout, sigma = self.system.input_layout, NOISE_SIGMA[self.system.vocals]
    noisy = np.stack([add_noise(window, sigma, seed=(seed, i)) for i, window in enumerate(windows)])
    semantic = self._tokenizers.semantics.encode(noisy) if "s" in layout.streams else None
    acoustic = self._tokenizers.codec.encode(noisy) if "a" in layout.streams else None
    return layout.encode(semantic, acoustic)

  def _generate(self, inputs: np.ndarray, seed: int, options: SamplingOptions) -> np.ndarray:
    """Encoder inputs `[W, S]` to target ids `[W, T]`, in batches of one shape: one compilation."""
    batch = min(MAX_BATCH, len(inputs))
    rng = jax.random.key(seed)
    keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(np.arange(len(inputs)))
    outputs = []
    for start in tqdm(range(0, len(inputs), batch), desc="generating", unit="batch"):
      rows = np.arange(start, start + batch) % len(inputs)  # the last batch is filled up with repeats
      ids = self.system.generate(self._params, {"encoder_input_tokens": inputs[rows]}, keys[rows], options)
      outputs.append(np.asarray(ids))
    return np.concatenate(outputs)[: len(inputs)]

  def _decode(self, ids: np.ndarray, num_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Target ids `[W, T]` to the instrumental, float32 `[num_samples]` at `sample_rate_hz`."""
    _, coarse = self.system.target_layout.decode(ids)
    pieces = self._tokenizers.codec.decode(coarse)  # [W, window samples]
    codec_rate_hz = self._tokenizers.codec.sample_rate_hz
    return resample(pieces.reshape(-1), codec_rate_hz, sample_rate_hz)[:num_samples]


def check_vocals(waveform: np.ndarray, sample_rate_hz: int, max_seconds: float = MAX_SECONDS) -> None:
  """Raises InputError unless `waveform` `[channels, samples]` is a vocal that can be accompanied."""
  channels, num_samples = waveform.shape
  seconds = num_samples / sample_rate_hz
  if channels not in (1, 2):
    raise InputError(f"the vocals have {channels} channels; mix them down to 1 or 2 first")
  if not MIN_SECONDS <= seconds <= max_seconds:
    raise InputError(f"the vocals last {seconds:.2f} s; between {MIN_SECONDS:g} and {max_seconds:g} s work")
  if not np.isfinite(waveform).all():
    raise InputError("the vocals contain NaN or infinite samples")
  level_db = peak_rms_db(to_mono(waveform), sample_rate_hz)
  if level_db < SILENCE_DB:
    raise InputError(f"the vocals are silent: loudest 50 ms at {level_db:.1f} dB, below {SILENCE_DB:g} dB")
