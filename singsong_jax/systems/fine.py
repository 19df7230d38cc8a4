"""Stage 3, which SingSong takes over from AudioLM (§3.3): coarse acoustic codes in, fine ones out."""

import dataclasses
import functools
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.decoding.engine import LogitCallback, Spans, check_forced, generate_tokens
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.networks import flops, losses
from singsong_jax.networks.cached_decoder import CachedDecoder
from singsong_jax.networks.decoder_only import DecoderOnly, DecoderOnlyConfig
from singsong_jax.systems.base import Batch, Params, Sums
from singsong_jax.systems.memory import decoding_bytes
from singsong_jax.tokens.fine import BOS_ID, FineLayout

gin.external_configurable(DecoderOnlyConfig)

SAMPLING = SamplingOptions(temperature=0.6)  # AudioLM's for stage 3 (§IV-B); SingSong gives none


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Fine:
  """A decoder alone over chunks of 3 s, see `tokens/fine.py`.

  Attributes:
    network: sizes; its `vocab_size` is set from `layout`.
    layout: of a chunk.
    z_loss: coefficient of `log(z)²`, t5x's default.
  """

  network: DecoderOnlyConfig
  layout: FineLayout = FineLayout()
  z_loss: float = 1e-4

  name = "fine"  # no annotation: class attributes, not fields
  bos_id = BOS_ID

  def __post_init__(self):
    object.__setattr__(self, "network", self.network.with_vocabulary(self.layout.vocabulary_size))

  @property
  def module(self) -> DecoderOnly:
    return DecoderOnly(self.network)

  @property
  def axis_sizes(self) -> dict[str, int]:
    return self.network.axis_sizes

  def init(self, rng: jax.Array) -> Params:
    """Fresh float32 parameters, boxed with logical axis names. No shape depends on the length."""
    return self.module.init(rng, jnp.ones((1, 1), jnp.int32), enable_dropout=False)["params"]

  def loss(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None, step: jax.Array | None = None
  ) -> tuple[jax.Array, Sums]:
    """Summed cross-entropy over all ids plus z-loss (t5x), at the fine positions only.

    Args:
      params: from `init`, boxed or not.
      batch: int32 `decoder_{input_tokens, target_tokens, loss_weights} [B, T]`, T being the layout's length.
      dropout_rng: None turns dropout off.
      step: not read.

    Returns:
      The sum, and the metrics of `losses.loss_and_metrics` for 'fine' and for each 'level_…' of the codec.
    """
    layout, first = self.layout, self.layout.coarse_length
    logits = self.module.apply(
      {"params": params},
      batch["decoder_input_tokens"],
      enable_dropout=dropout_rng is not None,
      first_logit=first,
      rngs=None if dropout_rng is None else {"dropout": dropout_rng},
    )  # [B, fine length, V]
    fine_levels = range(layout.num_coarse_levels, layout.num_levels)
    levels = {f"level_{level}": slice(i, None, len(fine_levels)) for i, level in enumerate(fine_levels)}
    return losses.loss_and_metrics(
      logits,
      batch["decoder_target_tokens"][:, first:],
      batch["decoder_loss_weights"][:, first:],
      z_loss=self.z_loss,
      block_starts=layout.block_starts[first:],
      block_size=layout.block_size,
      groups={"fine": slice(None)} | levels,
    )

  def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch: what `loss` takes."""
    names = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")
    return dict.fromkeys(names, jax.ShapeDtypeStruct((batch_size, self.layout.length), jnp.int32))

  def training_flops(self, batch_size: int) -> float:
    """Operations of one update, see `networks/flops.py`."""
    layout = self.layout
    num_logits = layout.length - layout.coarse_length
    return flops.decoder_only_step(self.network, batch_size, layout.length, num_logits)

  def generate(
    self,
    params: Params,
    batch: Batch,
    rng: jax.Array,
    options: SamplingOptions = SAMPLING,
    *,
    forced_spans: Spans = (),
    samples: int = 1,
    logit_callback: LogitCallback | None = None,
  ) -> jax.Array:
    """Samples the fine ids of chunks: ids `[B, T]` with the coarse ones as given; see `System.generate`.

    The batch needs `decoder_target_tokens [B, T]`, of which the coarse positions are always forced;
    `forced_spans` are further ones.

    Raises:
      InputError: as `System.generate`; or `samples` or a guidance, which this stage does not have.
    """
    if samples != 1 or options.guidance_scale != 1:
      raise InputError(
        f"the fine stage makes one sample a row, without guidance; got samples={samples}, "
        f"guidance_scale={options.guidance_scale}"
      )
    spans = ((0, self.layout.coarse_length), *forced_spans)
    tokens = batch["decoder_target_tokens"]
    check_forced(tokens, spans, len(tokens), self.layout.block_starts, self.layout.block_size)
    return self._generate(params, tokens, rng, options, spans, logit_callback)

  @functools.partial(jax.jit, static_argnames=("self", "options", "forced_spans", "logit_callback"))
  def _generate(self, params, tokens, rng, options, forced_spans, logit_callback) -> jax.Array:
    return generate_tokens(
      self.decoder(params, {}, len(tokens)),
      block_starts=self.layout.block_starts,
      block_size=self.layout.block_size,
      rows=len(tokens),
      rng=rng,
      options=options,
      bos_id=BOS_ID,
      forced_spans=forced_spans,
      forced_tokens=tokens,
      logit_callback=logit_callback,
    )

  @property
  def legal_blocks(self) -> tuple[np.ndarray, int]:
    return self.layout.block_starts, self.layout.block_size

  def decoder(self, params: Params, batch: Batch, rows: int) -> CachedDecoder:
    """Over `rows` sequences; there is no other input. See `System.decoder`."""
    return CachedDecoder(self.network, params, rows=rows, max_length=self.layout.length)

  def generation_bytes(self, rows: int) -> int:
    """Of `rows` rows, in bytes; see `systems/memory.py`."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return decoding_bytes(self.network, shapes, rows, self.layout.length, self.layout.block_size)

  def describe(self) -> dict[str, Any]:
    """All settings, as JSON values."""
    return {"system": self.name, **dataclasses.asdict(self), "network": self.network.describe()}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> "Fine":
    """Inverse of `describe`."""
    settings = {key: value for key, value in description.items() if key != "system"}
    settings["network"] = DecoderOnlyConfig.from_description(settings["network"])
    settings["layout"] = FineLayout(**settings["layout"])
    return cls(**settings)
