"""Floating-point operations that a training step needs.

The model's own work, whatever a program does besides (recomputation, masked halves, padding): the products
of the network, two operations per multiplication and addition, three times forward (forward, and backward
to activations and to weights). B sequences, S encoder and T decoder positions, L of the latter with logits,
E emb_dim, J = heads · head_dim, M mlp_dim, V ids, G matrices in an MLP (3 in a gated one):

    encoder layer   2·S·(4·E·J + G·E·M) + 4·S²·J
    decoder layer   2·T·(4·E·J + G·E·M) + 4·T²·J/2
    … and what it reads of an encoder   2·T·2·E·J + 2·S·2·E·J + 4·T·S·J
    head            2·L·E·V

Of causal self-attention half is counted: what lies above the diagonal need not be computed. Embeddings,
norms, softmax, loss and optimizer are not counted.
"""

from singsong_jax.networks.config import TransformerConfig
from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig


def encoder_decoder_step(
  network: EncoderDecoderConfig,
  batch_size: int,
  encoder_length: int,
  decoder_length: int,
  *,
  causal_share: float = 0.5,
) -> float:
  """Operations of one update on so many sequences; `causal_share` of the decoder's attention is counted."""
  projection, joined = _projection(network), _joined(network)
  encoder_layer = 2 * encoder_length * (4 * projection + _mlp(network)) + _attention(
    encoder_length, encoder_length, joined
  )
  cross_attention = 2 * 2 * (decoder_length + encoder_length) * projection + _attention(
    decoder_length, encoder_length, joined
  )
  decoder_layer = _decoder_layer(network, decoder_length, causal_share) + cross_attention
  layers = network.num_encoder_layers * encoder_layer + network.num_decoder_layers * decoder_layer
  return 3.0 * batch_size * (layers + _head(network, decoder_length))


def decoder_only_step(
  network: DecoderOnlyConfig, batch_size: int, length: int, num_logits: int, *, causal_share: float = 0.5
) -> float:
  """Operations of one update on sequences of `length`, of which `num_logits` positions have logits."""
  layers = network.num_decoder_layers * _decoder_layer(network, length, causal_share)
  return 3.0 * batch_size * (layers + _head(network, num_logits))


def attention_step(
  batch_size: int, heads: int, queries: int, keys: int, head_dim: int, causal: bool
) -> float:
  """Operations of one attention, forward and backward, without recomputation."""
  return 3.0 * batch_size * _attention(queries, keys, heads * head_dim) * (0.5 if causal else 1.0)


def _decoder_layer(network: TransformerConfig, length: int, causal_share: float) -> float:
  """Of a layer that reads no encoder."""
  products = 2 * length * (4 * _projection(network) + _mlp(network))
  return products + causal_share * _attention(length, length, _joined(network))


def _head(network: TransformerConfig, length: int) -> int:
  return 2 * length * network.emb_dim * network.vocab_size


def _joined(network: TransformerConfig) -> int:
  return network.num_heads * network.head_dim


def _projection(network: TransformerConfig) -> int:
  """Weights of a projection to heads, or from them."""
  return network.emb_dim * _joined(network)


def _mlp(network: TransformerConfig) -> int:
  """Weights of an MLP: a matrix in for each activation, and one out."""
  return (len(network.mlp_activations) + 1) * network.emb_dim * network.mlp_dim


def _attention(queries: int, keys: int, joined: int) -> int:
  """The logits' product and the values'."""
  return 2 * 2 * queries * keys * joined
