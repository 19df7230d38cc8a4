"""w2v-BERT (Chung et al. 2021) as a system: a contrastive task and masked prediction, learned together."""

import dataclasses
import math
from typing import Any

import gin
import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.errors import InputError
from singsong_jax.networks.w2v_bert import Predictions, W2vBert, W2vBertConfig
from singsong_jax.systems.base import Batch, Params, Sums

gin.external_configurable(W2vBertConfig)


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class W2vBertSystem:
  """See the module's docstring; losses are means over masked frames.

  Attributes:
    network: sizes.
    segment_seconds: of training examples.
    mask_start_rate: share of the frames at which a masked span starts.
    mask_span_frames: its length; spans may overlap, so that 1 − (1 − 0.065)¹⁰ = 49 % are masked.
    mask_noise: standard deviation of what stands for a masked feature; not stated, MusicFM's value.
    num_distractors: masked frames of the same example that a context vector must tell from its own.
    contrastive_temperature: of the cosines.
    diversity_weight: of what keeps all codes in use, inside the contrastive loss.
    mlm_weight: of the masked prediction.
    unmasked_weight: of unmasked frames in both losses, where masked ones count 1. The paper has none. A small
      network otherwise stays where it guesses codes by their frequency: it must learn what a code is and how
        to fill in a gap
      at once. HuBERT (Hsu et al. 2021, §II-B) has the same weight.
    max_temperature, temperature_decay, min_temperature: of the Gumbel softmax: max · decay^step, at least
      min.
    collapsed_perplexity: share of the codes below which the perplexity counts as collapsed.
  """

  network: W2vBertConfig
  segment_seconds: float = 10.0
  mask_start_rate: float = 0.065
  mask_span_frames: int = 10
  mask_noise: float = 0.1
  num_distractors: int = 100
  contrastive_temperature: float = 0.1
  diversity_weight: float = 0.1
  mlm_weight: float = 1.0
  unmasked_weight: float = 0.0
  max_temperature: float = 2.0
  temperature_decay: float = 0.999995
  min_temperature: float = 0.1
  collapsed_perplexity: float = 0.02

  name = "w2v_bert"  # no annotation: a class attribute, not a field

  def __post_init__(self):
    if self.segment_samples % self.network.hop_samples or self.num_frames < self.mask_span_frames:
      raise InputError(
        f"W2vBertSystem.segment_seconds={self.segment_seconds}: {self.segment_samples} samples must be a "
        f"multiple of {self.network.hop_samples}, and at least {self.mask_span_frames} frames"
      )

  @property
  def segment_samples(self) -> int:
    return round(self.segment_seconds * self.network.sample_rate_hz)

  @property
  def num_frames(self) -> int:
    """Of an example: 250."""
    return self.segment_samples // self.network.hop_samples

  @property
  def module(self) -> W2vBert:
    return W2vBert(self.network)

  @property
  def axis_sizes(self) -> dict[str, int]:
    return {"heads": self.network.num_heads, "mlp": self.network.mlp_dim}

  def init(self, rng: jax.Array) -> Params:
    """Fresh float32 parameters, boxed with logical axis names where they have any; of no length's shape."""
    waveform = jnp.zeros((1, self.network.hop_samples))
    mask, noise = jnp.zeros((1, 1), bool), jnp.zeros((1, 1, 1))
    return self.module.init(rng, waveform, mask, noise, None, 1.0, deterministic=True)["params"]

  def temperature(self, step: jax.Array | None) -> jax.Array | float:
    """Of the Gumbel softmax after `step` updates; the last one in evaluations."""
    if step is None:
      return self.min_temperature
    return jnp.maximum(self.max_temperature * self.temperature_decay**step, self.min_temperature)

  def mask(self, rng: jax.Array, rows: int) -> jax.Array:
    """bool `[rows, frames]`, True where features are masked."""
    starts = jax.random.bernoulli(
      rng, self.mask_start_rate, (rows, self.num_frames + self.mask_span_frames - 1)
    )
    # A frame is masked if a span started at it or up to span − 1 before; spans may start before the first
    # frame.
    return jnp.any(
      jnp.stack([starts[:, i : i + self.num_frames] for i in range(self.mask_span_frames)]), axis=0
    )

  def loss(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None, step: jax.Array | None = None
  ) -> tuple[jax.Array, Sums]:
    """L = L_w + 0.1 L_div + L_MLM, summed over the masked frames.

    Args:
      params: from `init`, boxed or not.
      batch: `waveform [B, T]` float32, `weight [B]`.
      dropout_rng: of masks, noise and dropout; None takes fixed masks, no noise and no dropout.
      step: updates done, for the temperature.

    Returns:
      The sum, and metrics: both losses and accuracies by masked frame; what tells of collapse by microbatch:
      `code_perplexity` (of the codes' mean probabilities), `code_usage` (share of the codes chosen), and
      `collapsed`, which is 1 where the perplexity is below `collapsed_perplexity` of the codes.
    """
    waveform, rows = batch["waveform"], len(batch["waveform"])
    rng = jax.random.key(0) if dropout_rng is None else dropout_rng
    mask_rng, noise_rng, gumbel_rng, dropout_rng_, distractor_rng = jax.random.split(rng, 5)
    mask = self.mask(mask_rng, rows)
    features = self.num_features
    noise = self.mask_noise * jax.random.normal(noise_rng, (rows, self.num_frames, features))
    gumbel = None
    if dropout_rng is not None:
      gumbel = jax.random.gumbel(gumbel_rng, (rows, self.num_frames, self.network.num_codes))
    predictions = self.module.apply(
      {"params": params},
      waveform,
      mask,
      noise,
      gumbel,
      self.temperature(step),
      deterministic=dropout_rng is None,
      rngs=None if dropout_rng is None else {"dropout": dropout_rng_},
    )
    masked = mask * batch["weight"][:, None]  # [B, frames]
    weights = jnp.where(mask, 1.0, self.unmasked_weight) * batch["weight"][:, None]
    contrastive, contrastive_hit = self._contrastive(predictions, mask, distractor_rng)
    mlm, mlm_hit = _masked_prediction(predictions)
    total_weight = jnp.sum(weights)
    perplexity, usage = _diversity(predictions.code_logits, batch["weight"])
    diversity = 1 - perplexity / self.network.num_codes
    frames = {
      "contrastive_loss": contrastive,
      "mlm_loss": mlm,
      "contrastive_accuracy": contrastive_hit,
      "mlm_accuracy": mlm_hit,
    }
    sums = {name: (jnp.sum(value * masked), jnp.sum(masked)) for name, value in frames.items()}
    total = jnp.sum((contrastive + self.mlm_weight * mlm + self.diversity_weight * diversity) * weights)
    one = jnp.ones(())
    collapsed = perplexity < self.collapsed_perplexity * self.network.num_codes
    sums |= {
      "loss": (total, total_weight),
      "code_perplexity": (perplexity, one),
      "code_usage": (usage, one),
      "collapsed": (collapsed.astype(jnp.float32), one),
      "masked_share": (jnp.sum(masked), jnp.sum(batch["weight"]) * self.num_frames),
    }
    return total, sums

  @property
  def num_features(self) -> int:
    """F, the size of what is masked."""
    return math.ceil(self.network.num_mels / 4) * self.network.conv_channels  # two strides of 2

  def _contrastive(
    self, predictions: Predictions, mask: jax.Array, rng: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """−log of a frame's own share among itself and its distractors, and whether it is the largest: `[B,
    frames]`.

    Distractors are drawn among the other masked frames of the example; those of the same code are none.
    """
    context, targets = (_unit(x.astype(jnp.float32)) for x in (predictions.context, predictions.targets))
    cosines = jnp.einsum("btd,bsd->bts", context, targets) / self.contrastive_temperature
    same = predictions.chosen[:, :, None] == predictions.chosen[:, None, :]
    may_distract = mask[:, None, :] & ~same
    scores = jnp.where(may_distract, jax.random.uniform(rng, cosines.shape), -1.0)
    count = min(self.num_distractors, cosines.shape[-1])
    least = jax.lax.top_k(scores, count)[0][..., -1:]
    distracts = may_distract & (scores >= least)
    own = jnp.diagonal(cosines, axis1=1, axis2=2)
    others = jnp.where(distracts, cosines, -jnp.inf)
    logsumexp = jax.nn.logsumexp(jnp.concatenate([own[..., None], others], axis=-1), axis=-1)
    return logsumexp - own, (own >= jnp.max(others, axis=-1)).astype(jnp.float32)

  def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch."""
    return {
      "waveform": jax.ShapeDtypeStruct((batch_size, self.segment_samples), jnp.float32),
      "weight": jax.ShapeDtypeStruct((batch_size,), jnp.float32),
    }

  def training_flops(self, batch_size: int) -> float:
    """Products of the Conformer blocks, the convolutions and the heads, forward and backward."""
    c, frames = self.network, self.num_frames
    block = 4 * c.emb_dim * c.mlp_dim + 4 * c.emb_dim**2 + 3 * c.emb_dim**2 + c.conv_kernel * c.emb_dim
    blocks = (c.contrastive_blocks + c.mlm_blocks) * (block + 2 * frames * c.emb_dim)
    features = self.num_features
    convs = (
      9 * 4 * features + 9 * c.conv_channels * features
    )  # by frame: 4 of the first per frame of the second
    heads = (features + c.emb_dim) * c.num_codes + features * c.emb_dim + c.emb_dim * c.code_dim
    return 6.0 * batch_size * frames * (blocks + convs + heads)

  def describe(self) -> dict[str, Any]:
    """All settings, as JSON values."""
    return {"system": self.name, **dataclasses.asdict(self), "network": self.network.describe()}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> "W2vBertSystem":
    """Inverse of `describe`."""
    settings = {key: value for key, value in description.items() if key != "system"}
    return cls(**{**settings, "network": W2vBertConfig.from_description(settings["network"])})


def _unit(x: jax.Array) -> jax.Array:
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def _masked_prediction(predictions: Predictions) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of the quantizer's likeliest code, and whether it was guessed: `[B, frames]`."""
  codes = jnp.argmax(jax.lax.stop_gradient(predictions.code_logits), axis=-1)
  log_probabilities = nn.log_softmax(predictions.mlm_logits)
  loss = -jnp.take_along_axis(log_probabilities, codes[..., None], axis=-1)[..., 0]
  return loss, (jnp.argmax(predictions.mlm_logits, axis=-1) == codes).astype(jnp.float32)


def _diversity(logits: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Perplexity of the codes' mean probabilities, and the share of codes that are some frame's likeliest."""
  rows = weight[:, None, None] / (jnp.sum(weight) * logits.shape[1] + 1e-9)
  mean = jnp.sum(jax.nn.softmax(logits) * rows, axis=(0, 1))
  perplexity = jnp.exp(-jnp.sum(mean * jnp.log(mean + 1e-9)))
  chosen = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1]) * weight[:, None, None]
  return perplexity, jnp.mean(jnp.any(chosen > 0, axis=(0, 1)))
