"""SingSong (Donahue et al. 2023): vocals' tokens in, the accompaniment's tokens out."""

import dataclasses
import functools
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.decoding.engine import (
  LogitCallback,
  Spans,
  check_forced,
  generate_tokens,
  guide,
)
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.networks import flops, losses
from singsong_jax.networks.cached_decoder import CachedDecoder
from singsong_jax.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from singsong_jax.networks.positions import Clock
from singsong_jax.systems.base import Batch, Params, Sums
from singsong_jax.systems.memory import decoding_bytes, encoding_bytes
from singsong_jax.tokens.featurization import FEATURIZATIONS, NOISE_SIGMA, SequenceLayout, layouts
from singsong_jax.tokens.vocabulary import BOS_ID, Vocabulary
from singsong_jax.tokens.windows import Geometry

gin.external_configurable(EncoderDecoderConfig)
_HIDING = 1  # of the random numbers that dropout's are folded from


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class SingSong:
  """The paper's encoder-decoder over semantic and coarse acoustic codes.

  Attributes:
    network: sizes; its `vocab_size` is set from `vocabulary`.
    features: what is read and written, see `tokens/featurization.py`.
    vocals: 'clean' or 'noisy', the level of noise on the vocals it is trained for.
    z_loss: coefficient of `log(z)²`, t5x's default.
    hidden: in training, between which shares of the decoder's inputs BOS takes the place of; the paper's, (0,
      0), hides none. Music goes on as it went: a decoder that sees all of its past learns for long from that
      alone, and from the vocals little (Bowman et al. 2016, §3.2, hide words for the same reason).
    lockstep: share of the training loss that the encoder bears alone: of its output at each semantic frame of
      the vocals the decoder's head is to make the accompaniment's semantic id of the same frame, which only
      the vocals can tell. The paper's is 0; at 1 nothing of the decoder but its head is trained.

  Raises:
    InputError: an unknown name, or a setting that contradicts another.
  """

  network: EncoderDecoderConfig
  features: str = "s_sa"
  vocals: str = "noisy"
  vocabulary: Vocabulary = Vocabulary()
  geometry: Geometry = Geometry()
  z_loss: float = 1e-4
  hidden: tuple[float, float] = (0.0, 0.0)
  lockstep: float = 0.0

  name = "singsong"  # no annotation: class attributes, not fields
  bos_id = BOS_ID

  def __post_init__(self):
    _check_choice("features", self.features, FEATURIZATIONS)
    _check_choice("vocals", self.vocals, NOISE_SIGMA)
    object.__setattr__(self, "hidden", tuple(self.hidden))
    if len(self.hidden) != 2 or not 0 <= self.hidden[0] <= self.hidden[1] <= 1:
      raise InputError(f"hidden={self.hidden}: two shares are meant, 0 ≤ least ≤ largest ≤ 1")
    if not 0 <= self.lockstep <= 1:
      raise InputError(f"lockstep={self.lockstep}: a share is meant, 0 ≤ lockstep ≤ 1")
    if self.lockstep and not all(layout.semantic_length for layout in self._layouts):
      raise InputError(
        f"lockstep={self.lockstep} needs semantic ids read and written; {self.features} lacks some"
      )
    object.__setattr__(self, "network", self.network.with_vocabulary(self.vocabulary.size))

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
    return EncoderDecoder(self.network, self._clock)

  @property
  def axis_sizes(self) -> dict[str, int]:
    return self.network.axis_sizes

  def init(self, rng: jax.Array) -> Params:
    """Fresh float32 parameters, boxed with logical axis names. No shape depends on the lengths."""
    token = jnp.ones((1, 1), jnp.int32)
    return self.module.init(rng, token, token, enable_dropout=False)["params"]

  def loss(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None, step: jax.Array | None = None
  ) -> tuple[jax.Array, Sums]:
    """Summed cross-entropy over all ids plus z-loss (t5x), and metrics as `(sum, weight)`.

    Args:
      params: from `init`, boxed or not.
      batch: int32 `encoder_input_tokens [B, S]` and `decoder_{input_tokens, target_tokens,
        loss_weights} [B, T]`, S and T being the layouts' lengths.
      dropout_rng: None turns dropout off.
      step: not read.

    Returns:
      The sum, and 'loss' (with z-loss), 'z_loss', 'accuracy', 'nll_semantic', 'nll_coarse', 'nll_level_q' of
      each coarse level q, 'nll_lockstep' if there is such a loss, and these NLLs '…_masked', where only the
      legal ids of a position compete. NLLs are in nats per token.
    """
    rngs = None if dropout_rng is None else {"dropout": dropout_rng}
    decoder_inputs = batch["decoder_input_tokens"]
    if any(self.hidden) and dropout_rng is not None:
      decoder_inputs = self._partly_hidden(decoder_inputs, jax.random.fold_in(dropout_rng, _HIDING))
    out = self.module.apply(
      {"params": params},
      batch["encoder_input_tokens"],
      decoder_inputs,
      enable_dropout=dropout_rng is not None,
      rngs=rngs,
      method="with_lockstep" if self.lockstep else None,
    )
    if not self.lockstep:
      return self._loss(out, batch, self._groups)
    frames = self.target_layout.semantic_length
    of_decoder, metrics = self._loss(out[0], batch, self._groups)
    of_encoder, also = self._loss(out[1][:, :frames], batch, {"lockstep": slice(0, frames)})
    if dropout_rng is not None and self.lockstep == 1:
      return of_encoder, also  # and XLA leaves the decoder out
    nlls = {name: value for name, value in also.items() if name.startswith("nll_")}
    return (1 - self.lockstep) * of_decoder + self.lockstep * of_encoder, {**metrics, **nlls}

  def _loss(self, logits: jax.Array, batch: Batch, groups: dict[str, slice]) -> tuple[jax.Array, Sums]:
    """Of `logits [B, n, V]` of the first n targets."""
    length = logits.shape[1]
    block_starts, block_sizes = self.legal_blocks
    return losses.loss_and_metrics(
      logits,
      batch["decoder_target_tokens"][:, :length],
      batch["decoder_loss_weights"][:, :length],
      z_loss=self.z_loss,
      block_starts=block_starts[:length],
      block_size=block_sizes[:length],
      groups=groups,
    )

  def _partly_hidden(self, tokens: jax.Array, rng: jax.Array) -> jax.Array:
    """`tokens [B, T]` with BOS in random places: of each row a share of its semantic and one of its coarse
    ids, drawn apart, between those of `hidden`.
    """
    of_row, of_token = jax.random.split(rng)
    shares = jax.random.uniform(of_row, (len(tokens), 2), minval=self.hidden[0], maxval=self.hidden[1])
    # A decoder's input is the target of the position before.
    stream = (np.arange(tokens.shape[1]) > self.target_layout.semantic_length).astype(int)
    return jnp.where(jax.random.uniform(of_token, tokens.shape) < shares[:, stream], BOS_ID, tokens)

  def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch: what `loss` takes."""
    lengths = {"encoder_input_tokens": self.input_layout.length}
    for name in ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"):
      lengths[name] = self.target_layout.length
    return {name: jax.ShapeDtypeStruct((batch_size, n), jnp.int32) for name, n in lengths.items()}

  def training_flops(self, batch_size: int) -> float:
    """Operations of one update, see `networks/flops.py`."""
    lengths = self.input_layout.length, self.target_layout.length
    return flops.encoder_decoder_step(self.network, batch_size, *lengths)

  def generate(
    self,
    params: Params,
    batch: Batch,
    rng: jax.Array,
    options: SamplingOptions = SamplingOptions(),
    *,
    forced_spans: Spans = (),
    samples: int = 1,
    logit_callback: LogitCallback | None = None,
  ) -> jax.Array:
    """Samples the accompaniment's ids `[B · samples, T]`, each legal at its position; see `System.generate`.

    The batch needs `encoder_input_tokens [B, S]`; for guidance also `guidance_input_tokens [B, S]`, the
    inputs that are guided away from; for forced spans `decoder_target_tokens [B · samples, T]`.
    """
    names = {"encoder_input_tokens"}
    if options.guidance_scale != 1:
      names.add("guidance_input_tokens")
    if forced_spans:
      names.add("decoder_target_tokens")
      rows = samples * len(batch["encoder_input_tokens"])
      check_forced(batch["decoder_target_tokens"], forced_spans, rows, *self.legal_blocks)
    inputs = {name: batch[name] for name in names}
    return self._generate(params, inputs, rng, options, forced_spans, samples, logit_callback)

  @functools.partial(
    jax.jit, static_argnames=("self", "options", "forced_spans", "samples", "logit_callback")
  )
  def _generate(self, params, batch, rng, options, forced_spans, samples, logit_callback) -> jax.Array:
    views = [batch[name] for name in ("encoder_input_tokens", "guidance_input_tokens") if name in batch]
    tokens = jnp.concatenate(views)  # [streams · B, S]
    block_starts, block_size = self.legal_blocks
    return generate_tokens(
      self.decoder(params, {"encoder_input_tokens": tokens}, len(tokens) * samples),
      block_starts=block_starts,
      block_size=block_size,
      rows=len(views[0]) * samples,
      rng=rng,
      options=options,
      bos_id=BOS_ID,
      forced_spans=forced_spans,
      forced_tokens=batch.get("decoder_target_tokens"),
      streams=len(views),
      combine=functools.partial(guide, scale=options.guidance_scale),
      logit_callback=logit_callback,
    )

  def decoder(self, params: Params, batch: Batch, rows: int) -> CachedDecoder:
    """Over `rows` sequences for the batch's `encoder_input_tokens [B, S]`; see `System.decoder`."""
    tokens = batch["encoder_input_tokens"]
    return CachedDecoder(
      self.network,
      params,
      rows=rows,
      max_length=self.target_layout.length,
      encoded=self.module.apply({"params": params}, tokens, method="encode"),
      encoder_mask=tokens > 0,
      clock=self._clock,
    )

  def generation_bytes(self, rows: int) -> int:
    """Of `rows` rows with an encoder row each, in bytes; see `systems/memory.py`."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    length, block_sizes = self.target_layout.length, self.legal_blocks[1]
    return decoding_bytes(self.network, shapes, rows, length, int(block_sizes.max())) + encoding_bytes(
      self.network, rows, self.input_layout.length
    )

  def describe(self) -> dict[str, Any]:
    """All settings, as JSON values."""
    settings = {**dataclasses.asdict(self), "hidden": list(self.hidden)}
    for name in ("hidden", "lockstep"):
      if not np.any(settings[name]):
        del settings[name]  # descriptions of before there was a choice remain the same
    return {"system": self.name, **settings, "network": self.network.describe()}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> "SingSong":
    """Inverse of `describe`."""
    settings = {key: value for key, value in description.items() if key != "system"}
    settings["network"] = EncoderDecoderConfig.from_description(settings["network"])
    settings["vocabulary"] = Vocabulary(**settings["vocabulary"])
    settings["geometry"] = Geometry(**settings["geometry"])
    return cls(**settings)

  @functools.cached_property
  def _clock(self) -> Clock | None:
    if not self.network.goes_by_time:
      return None
    return Clock(tuple(self.input_layout.seconds.tolist()), tuple(self.target_layout.seconds.tolist()))

  @property
  def legal_blocks(self) -> tuple[np.ndarray, np.ndarray]:
    return self.target_layout.block_starts, self.target_layout.block_sizes

  @property
  def _groups(self) -> dict[str, slice]:
    semantic, levels = self.target_layout.semantic_length, self.vocabulary.num_coarse_levels
    of_levels = {f"level_{q}": slice(semantic + q, None, levels) for q in range(levels)}
    return {"semantic": slice(0, semantic), "coarse": slice(semantic, None), **of_levels}


def _check_choice(setting: str, value: str, choices) -> None:
  if value not in choices:
    raise InputError(f"{setting}={value!r} is not known; choose one of {', '.join(choices)}")
