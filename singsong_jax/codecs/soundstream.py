"""SoundStream, the paper's codec (SingSong, §3.2), as `singsong_jax.export_codec` writes it after training.

    waveform [T] → encoder → latents [T / hop, D] → residual VQ → codes [T / hop, levels]

Causal throughout: whatever comes later in a stream changes nothing before it, and a stream in chunks of whole
frames gives what the whole gives (up to rounding). Weights are stored in float16 precision and computed in
float32.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from singsong_jax.audio import fitted_file
from singsong_jax.audio.checks import require_finite_samples
from singsong_jax.codecs.base import check_codes
from singsong_jax.errors import InputError
from singsong_jax.networks import weights
from singsong_jax.networks.soundstream import quantizer
from singsong_jax.networks.soundstream.config import SoundStreamConfig
from singsong_jax.networks.soundstream.generator import STREAM, Decoder, Encoder

KIND = "soundstream"
_CHUNK_FRAMES = 1500  # of long streams, to bound memory: 30 s at 50 Hz
_WHOLE_FRAMES = 50  # lengths are rounded up to so many, so that few programs are compiled
_NETWORKS = {"encoder": Encoder, "decoder": Decoder}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SoundStreamCodec(fitted_file.Stored):
  """See the module's docstring.

  Attributes:
    config: of the generator.
    networks: parameters of 'encoder' and 'decoder', float32 of float16 precision.
    entries: of the codebooks, float32 `[levels, codes, latent_dim]` of float16 precision.
    source: what it was trained on.
  """

  config: SoundStreamConfig
  networks: Mapping[str, Any]
  entries: np.ndarray
  source: dict

  name = KIND

  @property
  def sample_rate_hz(self) -> int:
    return self.config.sample_rate_hz

  @property
  def frame_rate_hz(self) -> float:
    return self.config.frame_rate_hz

  @property
  def num_levels(self) -> int:
    return self.config.num_levels

  @property
  def num_codes(self) -> int:
    return self.config.num_codes

  @property
  def context_frames(self) -> int:
    return self.config.decoder_context_frames

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Waveform to codes.

    Args:
      waveform: float `[..., samples]`, full scale ±1; padded with zeros to whole frames.

    Returns:
      int32 `[..., frames, num_levels]`, frames = ceil(samples / hop).

    Raises:
      InputError: a sample is NaN or infinite.
    """
    waveform = np.asarray(waveform, np.float32)
    hop = self.config.hop_samples
    frames = -(-waveform.shape[-1] // hop)
    rows = _padded(waveform.reshape(math.prod(waveform.shape[:-1]), waveform.shape[-1]), hop)
    codes = np.concatenate(list(self.encode_stream(_chunks(rows, hop))), axis=1)
    return codes[:, :frames].reshape(*waveform.shape[:-1], frames, self.num_levels)

  def encode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Codes of each chunk of a stream, as soon as it is there.

    Args:
      chunks: float `[B, samples]`, each whole frames long.

    Yields:
      int32 `[B, frames, num_levels]`.

    Raises:
      InputError: a sample is NaN or infinite, or a chunk is not whole frames long.
    """
    hop, past = self.config.hop_samples, None
    for chunk in chunks:
      require_finite_samples(chunk)
      if chunk.shape[-1] % hop:
        raise InputError(f"a chunk has {chunk.shape[-1]} samples; whole frames of {hop} are needed")
      latents, past = _run("encoder", self.config, self.networks["encoder"], np.float32(chunk), past)
      yield np.asarray(_nearest_codes(latents, self.entries))

  def decode(self, codes: np.ndarray, first_frame: int = 0) -> np.ndarray:
    """Codes to waveform.

    Args:
      codes: int `[..., frames, levels]`, 1 ≤ levels ≤ num_levels: the leading ones.
      first_frame: not read: a frame sounds the same wherever it is.

    Returns:
      float32 `[..., frames · hop]`; may exceed ±1 a little where the input came close to it.

    Raises:
      InputError: too many levels, or a code out of range.
    """
    codes = np.asarray(codes)
    check_codes(codes, self)
    rows = _padded(codes.reshape(math.prod(codes.shape[:-2]), *codes.shape[-2:]), 1)
    waveform = np.concatenate(list(self.decode_stream(_chunks(rows, 1))), axis=1)
    samples = codes.shape[-2] * self.config.hop_samples
    return waveform[:, :samples].reshape(*codes.shape[:-2], samples)

  def decode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Sound of each chunk of codes `[B, frames, levels]`, as soon as it is there: float32 `[B, frames ·
    hop]`.

    Raises:
      InputError: as `decode`.
    """
    past = None
    for codes in chunks:
      check_codes(codes, self)
      latents = quantizer.dequantize(codes, self.entries)
      waveform, past = _run("decoder", self.config, self.networks["decoder"], latents, past)
      yield np.asarray(waveform)

  def _file(self) -> fitted_file.FittedFile:
    arrays = {name: np.asarray(leaf, np.float16) for name, leaf in weights.flat(self.networks).items()}
    return fitted_file.FittedFile(
      kind=KIND,
      settings=self.config.describe(),
      source=self.source,
      arrays={**arrays, "entries": self.entries.astype(np.float16)},
    )

  @classmethod
  def from_file(cls, file: fitted_file.FittedFile) -> Self:
    """Raises KeyError, TypeError or ValueError when the content does not fit together."""
    arrays = dict(file.arrays)
    entries = arrays.pop("entries")
    return cls.from_parts(
      SoundStreamConfig.from_description(file.settings),
      weights.nested(arrays),
      entries,
      file.source,
    )

  @classmethod
  def from_parts(
    cls, config: SoundStreamConfig, networks: Mapping[str, Any], entries: np.ndarray, source: dict
  ) -> Self:
    """Of trained parts, rounded to what a file can hold.

    Args:
      networks: parameters of 'encoder' and 'decoder'.
      entries: `[levels, codes, latent_dim]`.

    Raises:
      ValueError: a part has not the shape that `config` asks for, a weight is no finite float16, or the
        codebooks were never fitted.
    """
    config = dataclasses.replace(config, dtype="float32")
    parts = {**weights.flat(networks), "entries": np.asarray(entries)}
    expected = _shapes(config)
    weights.check_shapes(parts, expected)
    if strange := sorted(parts.keys() - expected.keys()):
      raise ValueError(f"the settings have no {strange[0]}")
    if not np.any(parts["entries"]):
      raise ValueError(
        "the codebooks are all zeros: training has not yet reached SoundStream.fit_codebooks_at"
      )
    parts = {name: weights.rounded(name, part) for name, part in parts.items()}
    entries = parts.pop("entries")
    return cls(config=config, networks=weights.nested(parts), entries=entries, source=source)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(
  network: str, config: SoundStreamConfig, params: Any, x: jax.Array, past: Any
) -> tuple[jax.Array, Any]:
  """The network's output for a chunk `[B, …]`, and what the next needs of it; `past` None at the start."""
  variables = {"params": params} if past is None else {"params": params, STREAM: past}
  out, state = _NETWORKS[network](config).apply(variables, x, mutable=[STREAM])
  return out, state[STREAM]


@jax.jit
def _nearest_codes(latents: jax.Array, entries: jax.Array) -> jax.Array:
  return quantizer.quantize(latents, entries).codes


def _padded(rows: np.ndarray, hop: int) -> np.ndarray:
  """`[B, n, …]` with zeros behind, up to whole frames and few lengths: none of it is heard before them."""
  padding = -rows.shape[1] % (hop * _WHOLE_FRAMES) if rows.shape[1] else hop * _WHOLE_FRAMES
  return np.pad(rows, ((0, 0), (0, padding), *((0, 0),) * (rows.ndim - 2)))


def _chunks(rows: np.ndarray, hop: int) -> Iterator[np.ndarray]:
  size = _CHUNK_FRAMES * hop
  return (rows[:, start : start + size] for start in range(0, rows.shape[1], size))


def _shapes(config: SoundStreamConfig) -> dict[str, tuple[int, ...]]:
  inputs = {
    "encoder": jax.ShapeDtypeStruct((1, config.hop_samples), jnp.float32),
    "decoder": jax.ShapeDtypeStruct((1, 1, config.latent_dim), jnp.float32),
  }
  params = {
    name: jax.eval_shape(network(config).init, jax.random.key(0), inputs[name])["params"]
    for name, network in _NETWORKS.items()
  }
  shapes = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(params, sep="/").items()}
  return {**shapes, "entries": (config.num_levels, config.num_codes, config.latent_dim)}
