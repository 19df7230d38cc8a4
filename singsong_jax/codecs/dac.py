"""DAC with public weights: in JAX (`dac`), or Hugging Face's PyTorch model (`dac_torch`) of the same files.

`descript/dac_16khz` takes SoundStream's place without any other change: 16 kHz, 50 Hz, 12 levels of 1024. Its
stride of 5 makes the decoder's output 8 samples shorter than its frames; these are silent here.
"""

import dataclasses
import functools
import os
from typing import Any, ClassVar, Self

import jax
import numpy as np

from singsong_jax.audio.public_weights import SAFETENSORS, TORCH_WEIGHTS, PublicWeights, import_extra, locate
from singsong_jax.audio.torch_models import load_transformers, run
from singsong_jax.codecs.pretrained import PretrainedCodec
from singsong_jax.errors import InputError
from singsong_jax.networks.dac import Dac, DacConfig, from_torch

_CONFIG = "config.json"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DacCodec(PretrainedCodec):
  """DAC in JAX, without PyTorch. See the module's docstring.

  Attributes:
    config: sizes.
    variables: of `networks.dac.Dac`.
  """

  config: DacConfig
  variables: dict[str, Any]

  name: ClassVar[str] = "dac"

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike) -> Self:
    """Loads `config.json` and `model.safetensors`.

    Args:
      source: a folder, or a name on the Hugging Face hub.

    Raises:
      InputError: a file is missing, or holds another model.
    """
    return cls._load(locate(source, [_CONFIG], SAFETENSORS))

  @classmethod
  def _load(cls, weights: PublicWeights) -> Self:
    import safetensors.numpy

    config = _read_config(weights)
    path = weights.folder / SAFETENSORS[0]
    try:
      variables = from_torch(safetensors.numpy.load_file(path), config)
    except (InputError, safetensors.SafetensorError) as error:
      raise InputError(f"{path} does not hold the DAC of {_CONFIG}: {error}") from error
    return cls(weights=weights, config=config, variables=jax.device_put(variables), **_geometry(config))

  def _encode(self, clips: np.ndarray) -> np.ndarray:
    return np.asarray(_apply(self.config, "encode", self.variables, clips))

  def _decode(self, clips: np.ndarray, first_frame: int) -> np.ndarray:
    return np.asarray(_apply(self.config, "decode", self.variables, clips.astype(np.int32)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(config: DacConfig, method: str, variables: dict[str, Any], inputs: np.ndarray) -> jax.Array:
  return Dac(config).apply(variables, inputs, method=method)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DacTorchCodec(PretrainedCodec):
  """`transformers.DacModel`: what `DacCodec` is compared with.

  Attributes:
    model: `transformers.DacModel`.
  """

  model: Any

  name: ClassVar[str] = "dac_torch"

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike) -> Self:
    """As `DacCodec.from_pretrained`; weights may also be in shards or in PyTorch's own format."""
    return cls._load(locate(source, [_CONFIG], TORCH_WEIGHTS))

  @classmethod
  def _load(cls, weights: PublicWeights) -> Self:
    transformers = import_extra("transformers", "torch", "the codec dac_torch")
    config = _read_config(weights)
    model = load_transformers(transformers.DacModel, weights)
    return cls(weights=weights, model=model, **_geometry(config))

  def _encode(self, clips: np.ndarray) -> np.ndarray:
    codes = run(self.model, self.model.encode, clips[:, None]).audio_codes
    return codes.cpu().numpy().transpose(0, 2, 1)

  def _decode(self, clips: np.ndarray, first_frame: int) -> np.ndarray:
    decode = lambda codes: self.model.decode(audio_codes=codes).audio_values
    waveform = run(self.model, decode, clips.astype(np.int64).transpose(0, 2, 1)).cpu().numpy()
    missing = clips.shape[1] * self.hop_samples - waveform.shape[-1]
    return np.pad(waveform, [(0, 0), (0, missing)])


def _read_config(weights: PublicWeights) -> DacConfig:
  values = weights.check_class(["dac"])
  try:
    return DacConfig.from_json(values)
  except InputError as error:
    raise InputError(f"{weights.folder / _CONFIG}: {error}") from error


def _geometry(config: DacConfig) -> dict[str, int]:
  return {
    "sample_rate_hz": config.sampling_rate,
    "hop_samples": config.hop_samples,
    "num_levels": config.n_codebooks,
    "num_codes": config.codebook_size,
    "context_frames": config.decoder_context_frames,
  }
