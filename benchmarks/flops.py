"""Floating-point operations that a training step needs, and what devices can do.

The model's own work, whatever a program does besides (recomputation, masked halves, padding): the products
of the network, two operations per multiplication and addition, three times forward (forward, and backward
to activations and to weights). B sequences, S encoder and T decoder positions, E emb_dim, J = heads ·
head_dim, M mlp_dim, V ids, G = 3 matrices in a gated MLP:

    encoder layer   2·S·(4·E·J + G·E·M) + 4·S²·J
    decoder layer   2·T·(6·E·J + G·E·M) + 2·S·2·E·J + 4·T²·J/2 + 4·T·S·J
    head            2·T·E·V

Of causal self-attention half is counted: what lies above the diagonal need not be computed. Embeddings,
norms, softmax, loss and optimizer are not counted.
"""

from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig

# Dense bfloat16 products per second, from the makers' data sheets, by a part of jax's `device_kind`.
PEAK_FLOPS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12}


def training_step(
  network: EncoderDecoderConfig,
  batch: int,
  encoder_length: int,
  decoder_length: int,
  *,
  causal_share: float = 0.5,
) -> float:
  """Operations of one update on `batch` sequences; `causal_share` of the decoder's attention is counted."""
  forward = _encoder(network, encoder_length) + _decoder(
    network, encoder_length, decoder_length, causal_share
  )
  return 3.0 * batch * forward


def attention_step(batch: int, heads: int, queries: int, keys: int, head_dim: int, causal: bool) -> float:
  """Operations of one attention, forward and backward, without recomputation."""
  return 3.0 * batch * _attention(queries, keys, heads * head_dim) * (0.5 if causal else 1.0)


def peak(device_kind: str) -> float | None:
  """Operations per second of a device named as jax names it; None for one that is not listed."""
  return next((flops for part, flops in PEAK_FLOPS.items() if part in device_kind), None)


def _encoder(network: EncoderDecoderConfig, length: int) -> float:
  joined = network.num_heads * network.head_dim
  products = 2 * length * (4 * network.emb_dim * joined + _mlp(network))
  return network.num_encoder_layers * (products + _attention(length, length, joined))


def _decoder(network: EncoderDecoderConfig, encoder_length: int, length: int, causal_share: float) -> float:
  joined = network.num_heads * network.head_dim
  projection = network.emb_dim * joined
  products = 2 * length * (6 * projection + _mlp(network)) + 2 * encoder_length * 2 * projection
  attention = causal_share * _attention(length, length, joined) + _attention(length, encoder_length, joined)
  head = 2 * length * network.emb_dim * network.vocab_size
  return network.num_decoder_layers * (products + attention) + head


def _mlp(network: EncoderDecoderConfig) -> int:
  """Weights of an MLP: a matrix in for each activation, and one out."""
  return (len(network.mlp_activations) + 1) * network.emb_dim * network.mlp_dim


def _attention(queries: int, keys: int, joined: int) -> float:
  """The logits' product and the values'."""
  return 2 * 2 * queries * keys * joined
