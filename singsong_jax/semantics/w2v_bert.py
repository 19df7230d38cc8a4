"""w2v-BERT, the paper's semantic encoder (SingSong, §3.2), as `data_pipelines.fit_semantics` writes it.

    waveform [T] → Conformer, to a middle block of its MLM module → features [T / 640, d] → FeatureQuantizer

The network is not causal: a frame's features depend on the whole clip that it is heard in, and on where the
clip begins. So clips are heard whole, and a piece of a clip has other codes than the same frames of the clip.
What is longer than 30 s is heard in pieces of 10 s, as in training. Weights are stored in float16 precision
and computed in float32.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from singsong_jax.audio import fitted_file
from singsong_jax.audio.checks import require_finite_samples
from singsong_jax.networks import weights
from singsong_jax.networks.w2v_bert import W2vBert, W2vBertConfig
from singsong_jax.semantics.quantizer import FeatureQuantizer

KIND = "w2v_bert"
_LONGEST_SECONDS, _PIECE_SECONDS = 30, 10
_BATCH_SECONDS = 80  # heard at once, to bound memory
_QUANTIZER = ("mean", "scale", "centroids")
_NETWORK = "network"  # of the weights' names in a file
_UNUSED = "codebook"  # of training; the network has it whichever method is called


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class W2vBertFeatures:
  """The network, as far as features need it.

  Attributes:
    config: of the network.
    params: float32 of float16 precision.
  """

  config: W2vBertConfig
  params: Mapping[str, Any]

  @classmethod
  def from_params(cls, config: W2vBertConfig, params: Mapping[str, Any]) -> Self:
    """Of trained parameters, without axis names; those that features do not depend on are left out.

    Raises:
      ValueError: one is missing or has not the shape that `config` asks for, or is no finite float16.
    """
    config = dataclasses.replace(config, dtype="float32", remat="none")
    found, expected = weights.flat(params), _shapes(config)
    weights.check_shapes(found, expected)
    return cls(
      config=config, params=weights.nested({name: weights.rounded(name, found[name]) for name in expected})
    )

  def features(self, waveform: np.ndarray) -> np.ndarray:
    """float `[..., samples]` to float32 `[..., ceil(samples / hop), d]`, padded with zeros to whole frames.

    Raises:
      InputError: a sample is NaN or infinite.
    """
    waveform = np.asarray(waveform, np.float32)
    require_finite_samples(waveform)
    hop, samples = self.config.hop_samples, waveform.shape[-1]
    frames = -(-samples // hop)
    shape = (*waveform.shape[:-1], frames, self.config.emb_dim)
    if not waveform.size:
      return np.zeros(shape, np.float32)
    clips = np.pad(waveform.reshape(-1, samples), ((0, 0), (0, frames * hop - samples)))
    rate = self.config.sample_rate_hz
    if samples <= _LONGEST_SECONDS * rate:
      return self._run(clips).reshape(shape)
    return self._in_pieces(clips, _PIECE_SECONDS * rate // hop).reshape(shape)

  def _in_pieces(self, clips: np.ndarray, size: int) -> np.ndarray:
    """Of pieces of `size` frames. The last one begins early enough to be as long, and only its end counts."""
    hop = self.config.hop_samples
    frames = clips.shape[1] // hop
    starts = [*range(0, frames - size, size), frames - size]
    pieces = np.stack([clips[:, start * hop : (start + size) * hop] for start in starts], axis=1)
    features = self._run(pieces.reshape(-1, size * hop)).reshape(len(clips), len(starts), size, -1)
    whole, rest = features[:, :-1], features[:, -1]
    done = (len(starts) - 1) * size
    return np.concatenate([whole.reshape(len(clips), done, -1), rest[:, size - (frames - done) :]], axis=1)

  def _run(self, clips: np.ndarray) -> np.ndarray:
    """Of clips `[n, samples]` of whole frames; in few shapes, so that few programs are compiled."""
    most = max(1, _BATCH_SECONDS * self.config.sample_rate_hz // clips.shape[1])
    most = min(8, 1 << (most.bit_length() - 1))
    out = []
    for start in range(0, len(clips), most):
      part = clips[start : start + most]
      rows = 1 << (len(part) - 1).bit_length()
      padded = np.pad(part, ((0, rows - len(part)), (0, 0)))
      out.append(np.asarray(_features(self.config, self.params, padded))[: len(part)])
    return np.concatenate(out)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class W2vBertEncoder(fitted_file.Stored):
  """See the module's docstring.

  Attributes:
    extractor: the network.
    quantizer: normalisation and code book; centroids of float16 precision.
    source: what both were trained and fitted on.
  """

  extractor: W2vBertFeatures
  quantizer: FeatureQuantizer
  source: dict[str, Any]

  name = KIND

  @property
  def sample_rate_hz(self) -> int:
    return self.extractor.config.sample_rate_hz

  @property
  def frame_rate_hz(self) -> float:
    return self.sample_rate_hz / self.extractor.config.hop_samples

  @property
  def num_codes(self) -> int:
    return len(self.quantizer.centroids)

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Waveform to codes.

    Args:
      waveform: float `[..., samples]`, full scale ±1; padded with zeros to whole frames.

    Returns:
      int32 `[..., frames]`, frames = ceil(samples / hop).

    Raises:
      InputError: a sample is NaN or infinite.
    """
    return self.quantizer.encode(self.extractor.features(waveform))

  def _file(self) -> fitted_file.FittedFile:
    network = {_NETWORK: self.extractor.params}
    network = {name: np.float16(leaf) for name, leaf in weights.flat(network).items()}
    quantizer = {name: getattr(self.quantizer, name) for name in _QUANTIZER}
    return fitted_file.FittedFile(
      kind=KIND,
      settings=self.extractor.config.describe(),
      source=self.source,
      arrays={**network, **quantizer, "centroids": np.float16(quantizer["centroids"])},
    )

  @classmethod
  def from_file(cls, file: fitted_file.FittedFile) -> Self:
    """Raises InputError, KeyError, TypeError or ValueError when the content does not fit together."""
    arrays = dict(file.arrays)
    quantizer = FeatureQuantizer(**{name: arrays.pop(name) for name in _QUANTIZER})
    params = weights.nested(arrays)[_NETWORK]
    extractor = W2vBertFeatures.from_params(W2vBertConfig.from_description(file.settings), params)
    return cls.from_parts(extractor, quantizer, file.source)

  @classmethod
  def from_parts(
    cls, extractor: W2vBertFeatures, quantizer: FeatureQuantizer, source: dict[str, Any]
  ) -> Self:
    """Of a network and a code book fitted to its features, rounded to what a file can hold.

    Raises:
      ValueError: they do not fit together, or the code book has values that are not finite.
    """
    dims = extractor.config.emb_dim
    parts = {name: np.asarray(getattr(quantizer, name)) for name in _QUANTIZER}
    num_codes = max(1, len(parts["centroids"]))
    weights.check_shapes(parts, {"mean": (dims,), "scale": (dims,), "centroids": (num_codes, dims)})
    for name, part in parts.items():
      if not np.isfinite(part).all():
        raise ValueError(f"{name} has values that are not finite")
    parts = {name: np.float32(part) for name, part in parts.items()}
    parts["centroids"] = weights.rounded("centroids", parts["centroids"])
    return cls(extractor=extractor, quantizer=FeatureQuantizer(**parts), source=source)


@functools.partial(jax.jit, static_argnums=0)
def _features(config: W2vBertConfig, params: Mapping[str, Any], waveform: jax.Array) -> jax.Array:
  codebook = jnp.zeros((config.num_codes, config.code_dim))
  return W2vBert(config).apply({"params": {**params, _UNUSED: codebook}}, waveform, method="features")


def _shapes(config: W2vBertConfig) -> dict[str, tuple[int, ...]]:
  """Of the parameters that features depend on."""
  clip = jax.ShapeDtypeStruct((1, config.hop_samples), jnp.float32)
  init = functools.partial(W2vBert(config).init, method="features")
  params = nn.unbox(jax.eval_shape(init, jax.random.key(0), clip))["params"]
  leaves = traverse_util.flatten_dict(params, sep="/")
  return {name: leaf.shape for name, leaf in leaves.items() if name != _UNUSED}
