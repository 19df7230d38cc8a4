"""T5.1.1 encoder-decoder with fixed sinusoidal positions: SingSong's network (§4.4).

Numerically t5x's `examples/t5/network.py` with the position scheme swapped; the parameter tree has
t5x's names, one for one:

    token_embedder/embedding
    encoder/layers_0/{pre_attention_layer_norm, attention/{query,key,value,out}, pre_mlp_layer_norm, mlp}
    decoder/layers_0/{pre_self_attention_layer_norm, self_attention/…, pre_cross_attention_layer_norm,
                      encoder_decoder_attention/…, pre_mlp_layer_norm, mlp/{wi_0,wi_1,wo}}
    {encoder/encoder_norm, decoder/decoder_norm}/scale, decoder/logits_dense/kernel
    {encoder,decoder}/relpos_bias/rel_embedding                 (position_scheme='relative_bias' only)
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.networks import layers, positions, transformer
from singsong_jax.networks.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(TransformerConfig):
  """Sizes and switches of the network; see `TransformerConfig`."""

  num_encoder_layers: int


class EncoderDecoder(nn.Module):
  """The whole network. Padding (id 0) in the encoder's input is not attended to.

  Attributes:
    clock: when the tokens sound; read where the network goes by time.
  """

  config: EncoderDecoderConfig
  clock: positions.Clock | None = None

  def setup(self):
    config = self.config
    config.require_vocabulary()
    self.token_embedder = layers.Embed(config.vocab_size, config.emb_dim, jnp.dtype(config.dtype))
    self.encoder = transformer.Encoder(config, config.num_encoder_layers)
    self.decoder = transformer.Decoder(config, has_encoder=True)
    self.dropout = transformer.embedding_dropout(config)

  def __call__(
    self, encoder_input_tokens: jax.Array, decoder_input_tokens: jax.Array, *, enable_dropout: bool
  ) -> jax.Array:
    """Teacher-forced logits: ids `[B, S]` and `[B, T]` to float32 `[B, T, V]`.

    With `enable_dropout` the call needs the rng stream 'dropout'.
    """
    encoded = self.encode(encoder_input_tokens, enable_dropout=enable_dropout)
    return self._decode(encoded, encoder_input_tokens > 0, decoder_input_tokens, enable_dropout)

  def with_lockstep(
    self, encoder_input_tokens: jax.Array, decoder_input_tokens: jax.Array, *, enable_dropout: bool
  ) -> tuple[jax.Array, jax.Array]:
    """The same, and what the head makes of the encoder's output alone: float32 `[B, S, V]`."""
    encoded = self.encode(encoder_input_tokens, enable_dropout=enable_dropout)
    logits = self._decode(encoded, encoder_input_tokens > 0, decoder_input_tokens, enable_dropout)
    return logits, self.decoder.logits_dense(encoded)

  def _decode(
    self, encoded: jax.Array, encoder_mask: jax.Array, decoder_input_tokens: jax.Array, enable_dropout: bool
  ) -> jax.Array:
    x = self._embed(decoder_input_tokens, not enable_dropout)
    in_time = across = positions.InTime()
    if self.config.goes_by_time:
      length, keys = x.shape[1], encoded.shape[1]
      in_time = self._clock.decoder(self.config, 0, length, length)
      across = self._clock.across(self.config, 0, length, keys)
    return self.decoder(x, encoded, encoder_mask, not enable_dropout, in_time=in_time, across=across)

  def encode(self, encoder_input_tokens: jax.Array, *, enable_dropout: bool = False) -> jax.Array:
    """Ids `[B, S]` to `[B, S, E]`."""
    x = self._embed(encoder_input_tokens, not enable_dropout)
    in_time = positions.InTime()
    if self.config.goes_by_time:
      in_time = self._clock.encoder(self.config, x.shape[1])
    return self.encoder(x, encoder_input_tokens > 0, not enable_dropout, in_time)

  @property
  def _clock(self) -> positions.Clock:
    if self.clock is None:
      raise ValueError("the network goes by time, but the module was made without a clock")
    return self.clock

  def _embed(self, tokens: jax.Array, deterministic: bool) -> jax.Array:
    """Ids `[B, L]` to `[B, L, E]`, with positions."""
    x = transformer.add_positions(self.config, self.token_embedder(tokens), 0, tokens.shape[1])
    return self.dropout(x, deterministic=deterministic)
