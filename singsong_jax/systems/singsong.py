"""SingSong (Donahue et al. 2023): vocals' tokens in, the accompaniment's tokens out."""

import dataclasses
import functools
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.decoding.sampling import SamplingOptions, sample_tokens
from singsong_jax.errors import InputError
from singsong_jax.networks import losses
from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from singsong_jax.systems.base import Batch, Params
from singsong_jax.tokens.featurization import FEATURIZATIONS, NOISE_SIGMA, SequenceLayout, layouts
from singsong_jax.tokens.vocabulary import BOS_ID, Vocabulary
from singsong_jax.tokens.windows import Geometry

gin.external_configurable(EncoderDecoderConfig)


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class SingSong:
  """The paper's encoder-decoder over semantic and coarse acoustic codes.

  Attributes:
    network: sizes; its `vocab_size` is set from `vocabulary`.
    features: what is read and written, see `tokens/featurization.py`.
    vocals: 'clean' or 'noisy', the level of noise on the vocals it is trained for.
    z_loss: coefficient of `log(z)²`, t5x's default.

  Raises:
    InputError: an unknown name, or a setting that contradicts another.
  """

  network: EncoderDecoderConfig
  features: str = "s_sa"
  vocals: str = "noisy"
  vocabulary: Vocabulary = Vocabulary()
  geometry: Geometry = Geometry()
  z_loss: float = 1e-4

  name = "singsong"  # no annotation: a class attribute, not a field

  def __post_init__(self):
    _check_choice("features", self.features, FEATURIZATIONS)
    _check_choice("vocals", self.vocals, NOISE_SIGMA)
    size = self.vocabulary.size
    if self.network.vocab_size not in (0, size):
      raise InputError(
        f"network.vocab_size is {self.network.vocab_size}, but the vocabulary has {size} ids; leave it unset"
      )
    object.__setattr__(self, "network", dataclasses.replace(self.network, vocab_size=size))
    if len(set(self.target_layout.block_sizes)) > 1:
      raise InputError(f"semantic and acoustic code books must be of one size, got {self.vocabulary}")

  @property
  def input_layout(self) -> SequenceLayout:
    return self._layouts[0]

  @property
  def target_layout(self) -> SequenceLayout:
    return self._layouts[1]

  @functools.cached_property
  def _layouts(self) -> tuple[SequenceLayout, SequenceLayout]:
    return layouts(self.features, self.vocabulary, self.geometry)

  @property
  def module(self) -> EncoderDecoder:
    return EncoderDecoder(self.network)

  def init(self, rng: jax.Array) -> Params:
    """Fresh float32 parameters, boxed with logical axis names. No shape depends on the lengths."""
    token = jnp.ones((1, 1), jnp.int32)
    return self.module.init(rng, token, token, enable_dropout=False)["params"]

  def loss(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
    """Summed cross-entropy over all ids plus z-loss (t5x), and metrics as `(sum, weight)`.

    Args:
      params: from `init`, boxed or not.
      batch: int32 `encoder_input_tokens [B, S]` and `decoder_{input_tokens, target_tokens,
        loss_weights} [B, T]`, S and T being the layouts' lengths.
      dropout_rng: None turns dropout off.

    Returns:
      The sum, and 'loss' (with z-loss), 'z_loss', 'accuracy', 'nll_semantic', 'nll_coarse' and both
      of them '…_masked', where only the legal ids of a position compete. NLLs are in nats per token.
    """
    rngs = None if dropout_rng is None else {"dropout": dropout_rng}
    logits = self.module.apply(
      {"params": params},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
      enable_dropout=dropout_rng is not None,
      rngs=rngs,
    )  # [B, T, V]
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    nll, z_loss = losses.cross_entropy(logits, targets, self.z_loss)  # [B, T]
    loss = _weighted(nll + z_loss, weights)
    aux = {
      "loss": loss,
      "z_loss": _weighted(z_loss, weights),
      "accuracy": _weighted(losses.correct(logits, targets), weights),
    }
    masked = losses.block_cross_entropy(logits, targets, *self._blocks)
    for group, positions in self._groups.items():
      aux[f"nll_{group}"] = _weighted(nll[:, positions], weights[:, positions])
      aux[f"nll_{group}_masked"] = _weighted(masked[:, positions], weights[:, positions])
    return loss[0], aux

  def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch: what `loss` takes."""
    lengths = {"encoder_input_tokens": self.input_layout.length}
    for name in ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"):
      lengths[name] = self.target_layout.length
    return {name: jax.ShapeDtypeStruct((batch_size, n), jnp.int32) for name, n in lengths.items()}

  @functools.partial(jax.jit, static_argnames=("self", "options"))
  def generate(
    self, params: Params, batch: Batch, rng: jax.Array, options: SamplingOptions = SamplingOptions()
  ) -> jax.Array:
    """Samples the accompaniment's ids `[B, T]`, each legal at its position.

    Compiled here, once per batch shape and options.

    Args:
      params: from `init`, boxed or not.
      batch: needs only `encoder_input_tokens [B, S]`.
      rng: one key, or one a row `[B]` (see `decoding/sampling.py`).
    """
    tokens = batch["encoder_input_tokens"]
    apply = functools.partial(self.module.apply, {"params": params})
    encoded = apply(tokens, method="encode")
    cache = apply(encoded, tokens, self.target_layout.length, method="init_cache")
    block_starts, block_size = self._blocks
    return sample_tokens(
      functools.partial(apply, method="decode_step"),
      cache,
      block_starts=block_starts,
      block_size=block_size,
      batch_size=tokens.shape[0],
      rng=rng,
      options=options,
      bos_id=BOS_ID,
    )

  def describe(self) -> dict[str, Any]:
    """All settings, as JSON values."""
    network = dataclasses.asdict(self.network)
    network["mlp_activations"] = list(network["mlp_activations"])
    return {"system": self.name, **dataclasses.asdict(self), "network": network}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> "SingSong":
    """Inverse of `describe`."""
    settings = {key: value for key, value in description.items() if key != "system"}
    settings["network"] = EncoderDecoderConfig(**settings["network"])
    settings["vocabulary"] = Vocabulary(**settings["vocabulary"])
    settings["geometry"] = Geometry(**settings["geometry"])
    return cls(**settings)

  @property
  def _blocks(self) -> tuple[np.ndarray, int]:
    return self.target_layout.block_starts, int(self.target_layout.block_sizes[0])

  @property
  def _groups(self) -> dict[str, slice]:
    semantic = self.target_layout.semantic_length
    return {"semantic": slice(0, semantic), "coarse": slice(semantic, None)}


def _weighted(values: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Weighted sum of `[B, T]`, and the weights' sum."""
  weights = weights.astype(jnp.float32)
  return jnp.sum(values * weights), jnp.sum(weights)


def _check_choice(setting: str, value: str, choices) -> None:
  if value not in choices:
    raise InputError(f"{setting}={value!r} is not known; choose one of {', '.join(choices)}")
