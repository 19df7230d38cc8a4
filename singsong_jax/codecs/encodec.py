"""EnCodec (Défossez et al. 2022) with public weights, as Hugging Face's PyTorch model.

`facebook/encodec_24khz`: 24 kHz, 75 Hz; the bandwidth says how many levels of 1024 are used, 8 at 6 kbps.
`facebook/encodec_32khz` (MusicGen's): 32 kHz, 50 Hz, 4 levels of 2048. Mono models without scales only: the
48 kHz one is stereo and stores a scale beside its codes, for which a `Codec` has no place.
"""

import dataclasses
import math
import os
from typing import Any, ClassVar, Self

import numpy as np

from singsong_jax.audio.public_weights import TORCH_WEIGHTS, PublicWeights, import_extra, locate
from singsong_jax.audio.torch_models import load_transformers, run
from singsong_jax.codecs.pretrained import PretrainedCodec
from singsong_jax.errors import InputError

_CONFIG = "config.json"
# The decoder's LSTM remembers without limit. Pieces of a stream begin with as much of what comes before.
_LSTM_CONTEXT_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncodecCodec(PretrainedCodec):
  """See the module's docstring. Pieces of a stream join up to what the LSTM remembers of longer ago.

  Attributes:
    model: `transformers.EncodecModel`.
    bandwidth_kbps: one of the model's own.
  """

  model: Any
  bandwidth_kbps: float

  name: ClassVar[str] = "encodec"

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike, bandwidth_kbps: float = 6.0) -> Self:
    """Loads `config.json` and weights.

    Args:
      source: a folder, or a name on the Hugging Face hub.
      bandwidth_kbps: how much the codes of a second take, and thereby the number of levels. A model that has
        but one bandwidth is used with that.

    Raises:
      InputError: a file is missing or holds another model, or the model lacks the bandwidth.
    """
    return cls._load(locate(source, [_CONFIG], TORCH_WEIGHTS), bandwidth_kbps=bandwidth_kbps)

  @classmethod
  def _load(cls, weights: PublicWeights, bandwidth_kbps: float) -> Self:
    transformers = import_extra("transformers", "torch", "the codec encodec")
    _check_config(weights)
    model = load_transformers(transformers.EncodecModel, weights)
    bandwidth_kbps = _choose_bandwidth(model.config.target_bandwidths, bandwidth_kbps)
    return cls(
      weights=weights,
      model=model,
      bandwidth_kbps=bandwidth_kbps,
      sample_rate_hz=model.config.sampling_rate,
      hop_samples=model.config.hop_length,
      num_levels=model.quantizer.get_num_quantizers_for_bandwidth(bandwidth_kbps),
      num_codes=model.config.codebook_size,
      context_frames=_context_frames(model.config),
    )

  def _settings(self) -> dict[str, Any]:
    return {"bandwidth_kbps": self.bandwidth_kbps}

  def _encode(self, clips: np.ndarray) -> np.ndarray:
    encode = lambda waveform: self.model.encode(waveform, bandwidth=self.bandwidth_kbps)
    codes = run(self.model, encode, clips[:, None]).audio_codes  # [1, n, levels, frames]
    return codes[0].cpu().numpy().transpose(0, 2, 1)

  def _decode(self, clips: np.ndarray, first_frame: int) -> np.ndarray:
    decode = lambda codes: self.model.decode(codes[None], [None]).audio_values  # [n, 1, samples]
    return run(self.model, decode, clips.astype(np.int64).transpose(0, 2, 1))[:, 0].cpu().numpy()


def _check_config(weights: PublicWeights) -> None:
  config = weights.check_class(["encodec"])
  expected = {"audio_channels": 1, "normalize": False, "chunk_length_s": None}
  for name, value in expected.items():
    if config.get(name, value) != value:
      path = weights.folder / _CONFIG
      raise InputError(f"{path} has {name} = {config[name]!r}; expected {value!r}: mono without scales")


def _choose_bandwidth(offered: list[float], wanted: float) -> float:
  if len(offered) == 1:
    return offered[0]
  if wanted not in offered:
    choices = ", ".join(map(str, offered))
    raise InputError(f"bandwidth_kbps is {wanted}; this EnCodec has {choices}")
  return float(wanted)


def _context_frames(config: Any) -> int:
  """The convolutions' reach (SEANet's decoder), taken as the same on both sides, and the LSTM's."""
  reach = (config.last_kernel_size - 1) / config.hop_length  # frames
  rate = config.hop_length  # steps a frame
  for stride in reversed(config.upsampling_ratios):
    dilations = [config.dilation_growth_rate**j for j in range(config.num_residual_layers)]
    reach += sum((config.residual_kernel_size - 1) * dilation for dilation in dilations) / rate
    rate //= stride
    reach += 1 / rate  # a transposed convolution of kernel 2·stride reads two steps
  lstm = _LSTM_CONTEXT_SECONDS * config.sampling_rate / config.hop_length
  return math.ceil(reach + config.kernel_size - 1 + lstm)
