"""Semantic codes from public encoders: features of one layer, pooled, then a code book fitted on songs.

    waveform → network → layer l [frames · pool, d] → means of `pool` frames [frames, d] → FeatureQuantizer

Layers count from 1: number l is the output of the l-th transformer block. An encoder's file holds the code
book; of the network it holds source and SHA-256 alone (`audio/public_weights.py`).
"""

import abc
import dataclasses
import importlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from singsong_jax.audio.checks import require_finite_samples
from singsong_jax.audio.fitted_file import FittedFile, Stored
from singsong_jax.audio.public_weights import PublicWeights, locate
from singsong_jax.audio.torch_models import run
from singsong_jax.errors import InputError
from singsong_jax.semantics import base
from singsong_jax.semantics.quantizer import FeatureQuantizer, batches, fit_quantizer, spooled

_RATE_HZ = 25  # the paper's: features are pooled to it unless told otherwise
_CLIPS = 4  # that the network hears at once
_ARRAYS = ("mean", "scale", "centroids")


class Network(NamedTuple):
  """A published encoder.

  Attributes:
    model: a torch module.
    blocks: its transformer blocks, in order.
    dims: of a block's output.
    sample_rate_hz: of waveforms.
    hop_samples: from frame to frame.
    window_samples: that a frame sees, from its first one on. Clips are padded until the last one has as many.
    normalize: whether the model wants clips of zero mean and unit variance.
    inputs: float32 `[n, samples]` → arrays for `forward`.
    forward: runs all blocks on `inputs`, as tensors.
  """

  model: Any
  blocks: Any
  dims: int
  sample_rate_hz: int
  hop_samples: int
  window_samples: int
  normalize: bool
  inputs: Callable[[np.ndarray], Sequence[np.ndarray]]
  forward: Callable[..., Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedFeatures(abc.ABC):
  """Features of a public encoder, and what fits a code book to them: an `audio.specs.Unfitted`.

  Attributes:
    weights: what the network was loaded from.
    network: its blocks end with the one that features come from.
    pool: frames of the network in a frame of features.
    num_codes: of the code book to be fitted.
  """

  weights: PublicWeights
  network: Network
  pool: int
  num_codes: int

  name: ClassVar[str]
  configs: ClassVar[tuple[str, ...]]
  weight_files: ClassVar[tuple[str, ...]]
  default_layer: ClassVar[int]

  @classmethod
  def from_pretrained(
    cls,
    source: str | os.PathLike,
    layer: int | None = None,
    pool: int | None = None,
    num_codes: int = 1024,
  ) -> Self:
    """Loads a network.

    Args:
      source: a folder, or a name on the Hugging Face hub.
      layer: number of the block whose output is used, from 1; None for the class's default.
      pool: frames of the network whose mean is one of ours; None for 25 Hz.
      num_codes: of the code book to be fitted.

    Raises:
      InputError: files or a package are missing, the files hold another model, or it has no such layer.
    """
    weights = locate(source, cls.configs, cls.weight_files)
    return cls.load(weights, layer=layer or cls.default_layer, pool=pool, num_codes=num_codes)

  @classmethod
  def load(cls, weights: PublicWeights, *, layer: int, pool: int | None, num_codes: int) -> Self:
    """As `from_pretrained`, with weights that have been found."""
    network = cls._open(weights)
    if not 1 <= layer <= len(network.blocks):
      raise InputError(f"layer is {layer}; the {cls.name} in {weights.folder} has 1 … {len(network.blocks)}")
    if pool is None:
      pool = max(1, round(network.sample_rate_hz / network.hop_samples / _RATE_HZ))
    for name, value in {"pool": pool, "num_codes": num_codes}.items():
      if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least 1")
    del network.blocks[layer:]
    return cls(weights=weights, network=network, pool=pool, num_codes=num_codes)

  @classmethod
  @abc.abstractmethod
  def _open(cls, weights: PublicWeights) -> Network:
    """The network. Raises InputError where the files hold another one."""

  @property
  def sample_rate_hz(self) -> int:
    return self.network.sample_rate_hz

  @property
  def hop_samples(self) -> int:
    return self.network.hop_samples * self.pool

  @property
  def frame_rate_hz(self) -> float:
    return self.sample_rate_hz / self.hop_samples

  def features(self, waveform: np.ndarray) -> np.ndarray:
    """float `[..., samples]` to float32 `[..., ceil(samples / hop), dims]`.

    Raises:
      InputError: a sample is NaN or infinite.
    """
    waveform = np.asarray(waveform, np.float32)
    require_finite_samples(waveform)
    *batch, samples = waveform.shape
    frames = math.ceil(samples / self.hop_samples)
    if not waveform.size:
      return np.zeros((*batch, frames, self.network.dims), np.float32)
    clips = self._padded(waveform.reshape(-1, samples), frames)
    hidden = np.concatenate([self._hidden(clips[i : i + _CLIPS]) for i in range(0, len(clips), _CLIPS)])
    pooled = hidden[:, : frames * self.pool].reshape(len(clips), frames, self.pool, -1).mean(axis=2)
    return pooled.reshape(*batch, frames, -1)

  def _padded(self, clips: np.ndarray, frames: int) -> np.ndarray:
    """Clips as the network wants them, of a length that gives at least `frames` · pool of its frames."""
    if self.network.normalize:
      clips = clips - clips.mean(axis=-1, keepdims=True)
      clips = clips / np.sqrt(clips.var(axis=-1, keepdims=True) + 1e-7)  # as transformers does it
    extra = self.network.window_samples - self.network.hop_samples
    missing = frames * self.hop_samples + extra - clips.shape[-1]
    return np.pad(clips, [(0, 0), (0, missing)])

  def _hidden(self, clips: np.ndarray) -> np.ndarray:
    """Output of the last block: float32 `[n, frames, dims]`."""
    network, outputs = self.network, []
    keep = lambda module, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
    hook = network.blocks[-1].register_forward_hook(keep)
    try:
      run(network.model, network.forward, *network.inputs(clips))
    finally:
      hook.remove()
    return outputs[0].float().cpu().numpy()

  def describe(self) -> dict[str, Any]:
    """As JSON: all that the fitted encoder will depend on besides clips and seed."""
    return {"kind": self.name, "num_codes": self.num_codes, **self.settings()}

  def settings(self) -> dict[str, Any]:
    """Of the features, as JSON."""
    return {"sha256": self.weights.sha256, "layer": len(self.network.blocks), "pool": self.pool}

  def fit(self, clips: Iterable[np.ndarray], seed: int) -> "PretrainedEncoder":
    """An encoder whose code book is fitted to clips, each float `[samples]`.

    Every clip is heard once; features wait on disk for k-means, `dims` · 4 bytes a frame.

    Raises:
      InputError: no clips, nothing but silence, or fewer frames than codes.
    """
    heard, silent = 0, True

    def of_clips():
      nonlocal heard, silent
      for clip in clips:
        heard, silent = heard + 1, silent and not np.any(clip)
        yield self.features(clip)
      if silent:
        raise InputError(f"cannot fit a code book to {heard} clips without any sound")

    with spooled(of_clips(), self.network.dims, np.float32) as features:
      quantizer = fit_quantizer(lambda: batches(features), num_codes=self.num_codes, seed=seed)
      source = {"clips": heard, "frames": len(features), "seed": seed, **self.weights.describe()}
    return PretrainedEncoder(extractor=self, quantizer=quantizer, source=source)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedEncoder(Stored):
  """A `base.SemanticEncoder`: the nearest code to each frame of features.

  Attributes:
    extractor: the network.
    quantizer: normalisation and code book.
    source: where the weights are, and what the code book was fitted on.
  """

  extractor: PretrainedFeatures
  quantizer: FeatureQuantizer
  source: dict[str, Any]

  @property
  def name(self) -> str:
    return self.extractor.name

  @property
  def sample_rate_hz(self) -> int:
    return self.extractor.sample_rate_hz

  @property
  def frame_rate_hz(self) -> float:
    return self.extractor.frame_rate_hz

  @property
  def num_codes(self) -> int:
    return len(self.quantizer.centroids)

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """float `[..., samples]` to int32 `[..., ceil(samples / hop)]`. Raises InputError as `features`."""
    return self.quantizer.encode(self.extractor.features(waveform))

  def _file(self) -> FittedFile:
    arrays = {name: getattr(self.quantizer, name) for name in _ARRAYS}
    return FittedFile(kind=self.name, settings=self.extractor.settings(), source=self.source, arrays=arrays)

  @classmethod
  def from_file(cls, file: FittedFile) -> Self:
    """Loads the weights a file names, of whichever network.

    Raises:
      InputError: they are missing or have changed, or a package is missing.
      KeyError, TypeError, ValueError: the content does not fit together.
    """
    module, _, name = base.PUBLIC[file.kind].partition(":")
    quantizer = FeatureQuantizer(**{name: file.arrays[name] for name in _ARRAYS})
    extractor = getattr(importlib.import_module(module), name).load(
      PublicWeights.from_file(file),
      layer=file.settings["layer"],
      pool=file.settings["pool"],
      num_codes=len(quantizer.centroids),
    )
    if quantizer.centroids.shape[1:] != (extractor.network.dims,):
      raise ValueError(
        f"centroids have shape {quantizer.centroids.shape}, features {extractor.network.dims} dims"
      )
    return cls(extractor=extractor, quantizer=quantizer, source=file.source)
