"""SNAC (Siuzdak et al. 2024) with public weights, as the PyTorch model of the package `snac`.

Its levels have different rates: with strides 8·4·2·1, level 0 has one code where level 3 has eight. Here a
frame is one step of the coarsest level, with all the codes that fall into it as its levels:

    0 | 1 1 | 2 2 2 2 | 3 3 3 3 3 3 3 3        coarse to fine, and within a level of SNAC's in time

so `hubertsiuzdak/snac_32khz` has 10.42 frames a second of 15 codes each. Where the leading codes alone are
decoded, steps without a code add nothing. The decoder adds noise; here it is a function of the place in the
stream, so that decoding is repeatable, and pieces fit together.
"""

import dataclasses
import math
import os
from typing import Any, ClassVar, Self

import numpy as np

from singsong_jax.audio.public_weights import PublicWeights, import_extra, locate
from singsong_jax.audio.torch_models import import_torch, ready, run, unfit
from singsong_jax.codecs.pretrained import PretrainedCodec
from singsong_jax.errors import InputError
from singsong_jax.networks.dac import decoder_reach

_CONFIG = "config.json"
_WEIGHTS = ("pytorch_model.bin",)
_FIRST_KERNEL = 7  # of the decoder


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SnacCodec(PretrainedCodec):
  """See the module's docstring.

  Attributes:
    model: `snac.SNAC`.
    noises: of the decoder.
    window_frames: frames that attention looks at together, from the stream's beginning on; or 1.
  """

  model: Any
  noises: tuple["PlacedNoise", ...]
  window_frames: int

  name: ClassVar[str] = "snac"

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike) -> Self:
    """Loads `config.json` and `pytorch_model.bin`.

    Args:
      source: a folder, or a name on the Hugging Face hub.

    Raises:
      InputError: a file is missing or holds another model, or the package is.
    """
    return cls._load(locate(source, [_CONFIG], _WEIGHTS))

  @classmethod
  def _load(cls, weights: PublicWeights) -> Self:
    snac = import_extra("snac", "snac", "the codec snac")
    model = ready(_load_model(snac, weights))
    blocks = [module for module in model.modules() if isinstance(module, snac.layers.NoiseBlock)]
    strides = model.vq_strides
    return cls(
      weights=weights,
      model=model,
      noises=tuple(PlacedNoise(block, number) for number, block in enumerate(blocks)),
      window_frames=math.lcm(strides[0], model.attn_window_size or 1) // strides[0],
      sample_rate_hz=model.sampling_rate,
      hop_samples=int(model.hop_length) * strides[0],
      num_levels=sum(strides[0] // stride for stride in strides),
      num_codes=model.codebook_size,
      context_frames=_context_frames(model),
    )

  def _encode(self, clips: np.ndarray) -> np.ndarray:
    frames = clips.shape[1] // self.hop_samples
    codes = run(self.model, self.model.encode, clips[:, None])  # of each level [n, ≥ frames · codes a frame]
    per_frame = [self.model.vq_strides[0] // stride for stride in self.model.vq_strides]
    grids = [
      level.cpu().numpy()[:, : frames * count].reshape(-1, frames, count)
      for level, count in zip(codes, per_frame, strict=True)
    ]
    return np.concatenate(grids, axis=-1)

  def _decode(self, clips: np.ndarray, first_frame: int) -> np.ndarray:
    before = first_frame % self.window_frames  # attention's windows begin where those of the whole stream do
    after = -(before + clips.shape[1]) % self.window_frames
    for noise in self.noises:
      noise.first_frame, noise.frames = first_frame - before, before + clips.shape[1] + after

    def decode(codes):
      step = self.model.vq_strides[0]
      latents = import_torch().nn.functional.pad(self._latents(codes), (before * step, after * step))
      return self.model.decoder(latents)[:, 0]

    waveform = run(self.model, decode, clips.astype(np.int64)).cpu().numpy()
    return waveform[:, before * self.hop_samples :][:, : clips.shape[1] * self.hop_samples]

  def _latents(self, codes: Any) -> Any:
    """Tensor `[n, frames, levels]` to `[n, dims, steps]`: what the levels there are add up to."""
    total, level, step = 0.0, 0, self.model.vq_strides[0]
    for quantizer in self.model.quantizer.quantizers:
      count = step // quantizer.stride
      part = codes[..., level : level + count]
      level += count
      if not part.shape[-1]:
        break
      vectors = quantizer.out_proj(quantizer.decode_code(part.flatten(1)))  # [n, dims, frames · codes]
      vectors = vectors.unflatten(-1, part.shape[1:])
      absent = (0, count - part.shape[-1])
      vectors = import_torch().nn.functional.pad(vectors, absent).flatten(-2)
      total = total + vectors.repeat_interleave(quantizer.stride, dim=-1)
    return total


def _load_model(snac: Any, weights: PublicWeights) -> Any:
  config = weights.read_json(_CONFIG)
  path = weights.folder / _CONFIG
  if "vq_strides" not in config or "encoder_rates" not in config:
    raise InputError(f"{path} has no vq_strides or no encoder_rates; expected that of a SNAC")
  strides = config["vq_strides"]
  if any(strides[0] % stride for stride in strides):
    raise InputError(f"{path} has vq_strides {strides}; expected divisors of the first one")
  try:
    model = snac.SNAC.from_pretrained(str(weights.folder))
  except Exception as error:  # pickle and torch have many of their own
    raise unfit(weights, "SNAC", error) from error
  return model


class PlacedNoise:
  """SNAC's NoiseBlock, x + noise · linear(x), with noise that depends on the place in the stream alone.

  Attributes:
    first_frame, frames: what the decoder is given.
  """

  def __init__(self, block: Any, number: int):
    self._linear, self._number = block.linear, number
    self.first_frame, self.frames = 0, 1
    block.forward = self

  def __call__(self, x: Any) -> Any:
    """`[n, channels, steps]` to as many."""
    steps = x.shape[-1] // self.frames
    noise = np.concatenate([self._noise(self.first_frame + i, steps) for i in range(self.frames)])
    return x + import_torch().from_numpy(noise).to(x.device) * self._linear(x)

  def _noise(self, frame: int, steps: int) -> np.ndarray:
    """The noise of one frame, made from its number without that of the frames before."""
    generator = np.random.Generator(np.random.Philox(key=self._number, counter=[0, 0, 0, frame]))
    return generator.standard_normal(steps, np.float32)


def _context_frames(model: Any) -> int:
  steps = decoder_reach(model.decoder_rates) + _FIRST_KERNEL // 2 + (model.attn_window_size or 1) - 1
  return math.ceil(steps / model.vq_strides[0])
