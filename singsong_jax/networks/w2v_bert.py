"""w2v-BERT (Chung et al. 2021), whose features become semantic codes (SingSong, §3.2).

    waveform [T] → log-mel [T/160, 80] → two convolutions of stride 2 → features [T/640, F] = 25 Hz
      → norm → masked → linear → contrastive module → context vectors → MLM module → logits of codes
      → quantizer (Gumbel softmax over one codebook) → targets of both modules

Everything is at 25 Hz for 16 kHz audio, exactly T/640 frames.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks.config import DTYPES
from singsong_jax.networks.conformer import ConformerBlock, LayerNorm
from singsong_jax.networks.layers import Dense, parameter
from singsong_jax.networks.spectra import log_mel

_SUBSAMPLING = 4  # in time, by two strides of 2
_LOG_MEL_MEAN, _LOG_MEL_SCALE = -4.0, 2.0  # of music and voices at usual levels, roughly
_REMAT_POLICIES = {"minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class W2vBertConfig:
  """Sizes of the network; the defaults are the paper's XL, 0.6 B parameters.

  Attributes:
    hop_samples, window_samples: of log-mel frames: 10 and 25 ms.
    conv_channels: of the two subsampling convolutions, 3 × 3; the paper's sources do not give them.
    emb_dim: of the Conformer blocks.
    contrastive_blocks, mlm_blocks: how many of each.
    feature_block: semantic features are the output of this block of the MLM module, from 1 (AudioLM, §III-B:
      7).
    conv_kernel: of the depthwise convolutions.
    num_codes, code_dim: of the quantizer.
    dtype, remat: how it is computed, see `networks.config.TransformerConfig`.

  Raises:
    InputError: a value the network cannot be built with.
  """

  sample_rate_hz: int = 16_000
  mel_hop_samples: int = 160
  mel_window_samples: int = 400
  num_mels: int = 80
  conv_channels: int = 128
  emb_dim: int = 1024
  num_heads: int = 8
  mlp_dim: int = 4096
  contrastive_blocks: int = 12
  mlm_blocks: int = 12
  feature_block: int = 7
  conv_kernel: int = 5
  num_codes: int = 1024
  code_dim: int = 1024
  dropout_rate: float = 0.1
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    for name, size in dataclasses.asdict(self).items():
      if name not in ("dropout_rate", "dtype", "remat") and (not isinstance(size, int) or size < 1):
        raise InputError(f"{name} must be a whole number of at least 1, got {size!r}")
    if self.emb_dim % self.num_heads:
      raise InputError(f"emb_dim={self.emb_dim} does not divide into {self.num_heads} heads")
    if self.feature_block > self.mlm_blocks:
      raise InputError(f"feature_block={self.feature_block}: there are {self.mlm_blocks} MLM blocks")
    if self.dtype not in DTYPES or self.remat not in ("none", *_REMAT_POLICIES):
      raise InputError(f"dtype={self.dtype!r} or remat={self.remat!r} is unknown")

  @property
  def hop_samples(self) -> int:
    """Samples of a frame of features: 640."""
    return self.mel_hop_samples * _SUBSAMPLING

  def describe(self) -> dict[str, Any]:
    """As JSON values: what the network computes, not how."""
    return {name: value for name, value in dataclasses.asdict(self).items() if name != "remat"}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> Self:
    """Inverse of `describe`."""
    return cls(**description)


class Predictions(NamedTuple):
  """What training compares, for features `[B, frames]`.

  Attributes:
    context: of the contrastive module, projected to the codebook's space `[B, frames, code_dim]`.
    targets: entries of the codebook `[B, frames, code_dim]`; their gradient is the Gumbel softmax's.
    chosen: which they are, int32 `[B, frames]`.
    code_logits: of the quantizer, float32 `[B, frames, codes]`, without noise.
    mlm_logits: of the MLM module, float32 `[B, frames, codes]`.
  """

  context: jax.Array
  targets: jax.Array
  chosen: jax.Array
  code_logits: jax.Array
  mlm_logits: jax.Array


def _centred(features: jax.Array) -> jax.Array:
  """Without each feature's mean over the example's frames, and of unit variance altogether: `[B, frames, F]`.

  What all frames have in common would choose the same code for all of them: the quantizer would begin
    collapsed. A
  variance for each feature would make the noise of silent bands as loud as the music.
  """
  centred = features - jnp.mean(features, axis=1, keepdims=True)
  return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=(1, 2), keepdims=True) + 1e-4)


class W2vBert(nn.Module):
  """See the module's docstring."""

  config: W2vBertConfig

  def setup(self):
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    self.convs = [nn.Conv(config.conv_channels, (3, 3), (2, 2), dtype=dtype) for _ in range(2)]
    self.feature_norm = LayerNorm(dtype)
    self.project = Dense(config.emb_dim, ("kv", "embed"), dtype)
    block = ConformerBlock
    if config.remat != "none":
      block = nn.remat(ConformerBlock, policy=_REMAT_POLICIES[config.remat], static_argnums=(2,))
    sizes = (config.num_heads, config.mlp_dim, config.conv_kernel, config.dropout_rate, dtype)
    self.contrastive = [block(*sizes) for _ in range(config.contrastive_blocks)]
    self.mlm = [block(*sizes) for _ in range(config.mlm_blocks)]
    self.context_out = Dense(config.code_dim, ("embed", "mlp"), dtype)
    # Logits that begin well above the Gumbel noise, as in wav2vec 2.0: else codes are drawn at random, and
    # nothing can be learned of them.
    self.code_logits = Dense(config.num_codes, ("kv", "vocab"), jnp.float32, nn.initializers.normal(1.0))
    self.mlm_logits = Dense(config.num_codes, ("embed", "vocab"), jnp.float32)
    shape = (config.num_codes, config.code_dim)
    self.codebook = parameter(self, "codebook", nn.initializers.normal(1.0), shape, ("vocab", "embed"))
    self.feature_dropout = nn.Dropout(config.dropout_rate)

  @nn.nowrap
  def _normalised(self, waveform: jax.Array) -> jax.Array:
    config = self.config
    features = log_mel(
      waveform,
      sample_rate_hz=config.sample_rate_hz,
      num_mels=config.num_mels,
      window=config.mel_window_samples,
      hop=config.mel_hop_samples,
    )
    return (features - _LOG_MEL_MEAN) / _LOG_MEL_SCALE

  def _subsample(self, waveform: jax.Array) -> jax.Array:
    """float32 `[B, T]` to `[B, T / hop, F]`; T is a multiple of the hop."""
    x = self._normalised(waveform)[..., None]
    for conv in self.convs:
      x = nn.relu(conv(x))
    return self.feature_norm(x.reshape(*x.shape[:2], -1))

  def __call__(
    self,
    waveform: jax.Array,
    mask: jax.Array,
    noise: jax.Array,
    gumbel: jax.Array | None,
    temperature: jax.Array | float,
    deterministic: bool,
  ) -> Predictions:
    """Predictions for masked features.

    Args:
      waveform: float32 `[B, T]`.
      mask: bool `[B, frames]`.
      noise: float32 `[B, frames, F]`, which stands for masked features; F may be 1 to initialise.
      gumbel: noise of the quantizer `[B, frames, codes]`; None takes the likeliest code.
      temperature: of its softmax.
      deterministic: no dropout.
    """
    features = self._subsample(waveform)
    logits = self.code_logits(_centred(features.astype(jnp.float32)))
    noisy = logits if gumbel is None else logits + gumbel
    soft, chosen = jax.nn.softmax(noisy / temperature), jnp.argmax(noisy, axis=-1)
    hard = jax.nn.one_hot(chosen, logits.shape[-1])
    targets = (soft + jax.lax.stop_gradient(hard - soft)) @ self.codebook
    x = jnp.where(mask[..., None], noise.astype(features.dtype), features)
    x = self.feature_dropout(self.project(x), deterministic=deterministic)
    for block in self.contrastive:
      x = block(x, deterministic)
    context = self.context_out(x)
    for block in self.mlm:
      x = block(x, deterministic)
    return Predictions(context, targets, chosen, logits, self.mlm_logits(x))

  def features(self, waveform: jax.Array) -> jax.Array:
    """What semantic codes are made of: float32 `[B, T]` to `[B, T / hop, emb_dim]`, unmasked, no dropout."""
    x = self.project(self._subsample(waveform))
    for block in (*self.contrastive, *self.mlm[: self.config.feature_block]):
      x = block(x, True)
    return x.astype(jnp.float32)
