"""A decoder alone: AudioLM's network (Borsos et al. 2022, §IV-B), which SingSong's fine stage is.

The parameter tree is the decoder half of `encoder_decoder.py`, without attention to an encoder:

    token_embedder/embedding
    decoder/layers_0/{pre_self_attention_layer_norm, self_attention/…, pre_mlp_layer_norm, mlp/…}
    decoder/{decoder_norm/scale, logits_dense/kernel, relpos_bias/rel_embedding}
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.networks import layers, transformer
from singsong_jax.networks.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderOnlyConfig(TransformerConfig):
  """Sizes and switches of the network; see `TransformerConfig`. AudioLM has T5's relative positions."""

  position_scheme: str = "relative_bias"


class DecoderOnly(nn.Module):
  """The whole network."""

  config: DecoderOnlyConfig

  def setup(self):
    config = self.config
    config.require_vocabulary()
    self.token_embedder = layers.Embed(config.vocab_size, config.emb_dim, jnp.dtype(config.dtype))
    self.decoder = transformer.Decoder(config, has_encoder=False)
    self.dropout = transformer.embedding_dropout(config)

  def __call__(
    self, decoder_input_tokens: jax.Array, *, enable_dropout: bool, first_logit: int = 0
  ) -> jax.Array:
    """Teacher-forced logits: ids `[B, T]` to float32 `[B, T - first_logit, V]`, those from `first_logit` on.

    With `enable_dropout` the call needs the rng stream 'dropout'.
    """
    x = self.token_embedder(decoder_input_tokens)
    x = transformer.add_positions(self.config, x, 0, decoder_input_tokens.shape[1])
    x = self.dropout(x, deterministic=not enable_dropout)
    return self.decoder(x, None, None, not enable_dropout, first_logit)
