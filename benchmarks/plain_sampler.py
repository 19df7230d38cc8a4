"""What one writes first: a cached sampler of SingSong's network without any of the decoding engine's care.

It is the reference the engine is timed against and, with greedy choice, compared with token by token. One
`lax.scan` over all positions; self-attention reads its whole `[B, H, T, D]` cache at every step, behind a
mask; queries, keys, values and the MLP's halves are products of their own; the head computes the logits of
all V ids and the illegal ones are masked. The keys and values of the encoder are computed once.

B batch, S encoder length, T target length, E emb_dim, H heads, D head_dim, V vocabulary.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.networks import positions
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.vocabulary import BOS_ID

Tree = Any  # nested dict of parameters, or of caches


@functools.partial(jax.jit, static_argnames=("system", "greedy"))
def sample(
  system: SingSong, params: Tree, encoder_tokens: jax.Array, rng: jax.Array, *, temperature=0.85, greedy=False
) -> jax.Array:
  """Samples ids int32 `[B, T]` for `encoder_tokens` `[B, S]`; `params` are `system.init`'s, unboxed."""
  network, layout = system.network, system.target_layout
  heads, rows, dtype = network.num_heads, len(encoder_tokens), jnp.dtype(network.dtype)
  decoder = params["decoder"]
  layers = [decoder[f"layers_{i}"] for i in range(network.num_decoder_layers)]
  encoded = system.module.apply({"params": params}, encoder_tokens, method="encode")  # [B, S, E]
  empty = jnp.zeros((rows, heads, layout.length, network.head_dim), dtype)
  caches = [(empty, empty) for _ in layers]
  cross = [_keys_and_values(layer["encoder_decoder_attention"], encoded, heads) for layer in layers]
  visible = (encoder_tokens > 0)[:, None, None]  # [B, 1, 1, S]
  embedding = params["token_embedder"]["embedding"].astype(dtype)
  sinusoids = jnp.asarray(positions.sinusoids(layout.length, network.emb_dim))
  first_ids = jnp.asarray(layout.block_starts)
  ids = jnp.arange(network.vocab_size)

  def step(carry, position):
    token, caches = carry
    x = (embedding[token] + sinusoids[position]).astype(dtype)[:, None]  # [B, 1, E]
    written = jnp.arange(layout.length) <= position  # [T]
    new_caches = []
    for layer, cache, cross_cache in zip(layers, caches, cross, strict=True):
      y = _norm(x, layer["pre_self_attention_layer_norm"])
      new = _keys_and_values(layer["self_attention"], y, heads)  # twice [B, H, 1, D]
      cache = tuple(jax.lax.dynamic_update_slice(c, n, (0, 0, position, 0)) for c, n in zip(cache, new))
      new_caches.append(cache)
      x += _attend(layer["self_attention"], y, *cache, written)
      y = _norm(x, layer["pre_cross_attention_layer_norm"])
      x += _attend(layer["encoder_decoder_attention"], y, *cross_cache, visible)
      x += _mlp(layer["mlp"], _norm(x, layer["pre_mlp_layer_norm"]))
    x = _norm(x, decoder["decoder_norm"])[:, 0].astype(jnp.float32)
    logits = x @ decoder["logits_dense"]["kernel"]  # [B, V]
    first = first_ids[position]
    legal = (ids >= first) & (ids < first + layout.block_sizes[0])
    logits = jnp.where(legal, logits, -jnp.inf)
    if greedy:
      token = jnp.argmax(logits, axis=-1)
    else:
      token = jax.random.categorical(jax.random.fold_in(rng, position), logits / temperature)
    return (token, new_caches), token

  start = jnp.full((rows,), BOS_ID, jnp.int32)
  return jax.lax.scan(step, (start, caches), jnp.arange(layout.length))[1].T


def _dense(layer: Tree, x: jax.Array) -> jax.Array:
  return x @ layer["kernel"].astype(x.dtype)


def _norm(x: jax.Array, layer: Tree) -> jax.Array:
  wide = x.astype(jnp.float32)
  normalized = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-6)
  return normalized.astype(x.dtype) * layer["scale"].astype(x.dtype)


def _split_heads(x: jax.Array, heads: int) -> jax.Array:
  """`[B, length, H·D]` to `[B, H, length, D]`."""
  return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _keys_and_values(layer: Tree, x: jax.Array, heads: int) -> tuple[jax.Array, jax.Array]:
  return _split_heads(_dense(layer["key"], x), heads), _split_heads(_dense(layer["value"], x), heads)


def _attend(layer: Tree, x: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
  """x `[B, 1, E]` against `[B, H, K, D]`; mask broadcastable to `[B, H, 1, K]`."""
  query = _split_heads(_dense(layer["query"], x), keys.shape[1])
  logits = jnp.einsum("bhqd,bhkd->bhqk", query, keys, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(jnp.where(mask, logits, -1e10)).astype(x.dtype)
  mixed = jnp.einsum("bhqk,bhkd->bqhd", weights, values)
  return _dense(layer["out"], mixed.reshape(*x.shape[:2], -1))


def _mlp(layer: Tree, x: jax.Array) -> jax.Array:
  return _dense(layer["wo"], nn.gelu(_dense(layer["wi_0"], x)) * _dense(layer["wi_1"], x))
