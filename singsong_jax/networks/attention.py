"""`softmax(query · keyᵀ + bias) · value`: all attention of the project goes through here; its fused kernels.

`…` below is `batch, heads`, or the two joined (with 'xla' only).
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from singsong_jax.errors import InputError

# Added to the logits of forbidden keys, as in t5x: finite, so a row without any legal key stays finite.
MASKED = -1e10
# Causal attention goes by this many queries at a time, each chunk against the keys up to its end: half
# the work and a fraction of the memory of a full square.
CAUSAL_CHUNK = 256
# The TPU kernel reads whole tiles of 128 positions, and is faster with several at once.
_TILE, _MAX_BLOCK = 128, 512


def dot_product_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  causal: bool = False,
  key_mask: jax.Array | None = None,
  bias: jax.Array | None = None,
  kernel: str = "xla",
) -> jax.Array:
  """Attention without scaling of the logits; its softmax is computed in float32.

  Args:
    query: `[…, queries, head_dim]`.
    key, value: `[…, keys, head_dim]`.
    causal: query i sees keys `0 … i`; needs as many keys as queries.
    key_mask: bool, broadcastable to `[…, keys]`, True where a key may be seen. The kernel 'cudnn' takes a
      `[batch, 1, keys]` whose False ones come last, as padding does.
    bias: added to the logits, `[…, queries, keys]` with any of `…` 1 or missing.
    kernel: of `networks.config.ATTENTIONS`. 'flash' leaves to 'xla' calls with a bias, and those outside the
      trainer's mesh (generation, upstream t5x), where nothing says how to partition it.

  Returns:
    `[…, queries, head_dim]`, of `value`'s dtype.

  Raises:
    InputError: a kernel for other devices than the program is for.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if kernel == "xla" or (kernel == "flash" and (bias is not None or mesh.empty)):
    return _xla(query, key, value, causal, key_mask, bias)
  _check_device(kernel)
  if kernel == "cudnn":
    return _cudnn(query, key, value, causal, key_mask, bias)
  return _sharded_flash(mesh, query, key, value, causal, key_mask)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
  """Turns feature i of the first half and i of the second by `angles [L, D/2]`: `[…, L, D]` to the same."""
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1).astype(x.dtype)


def _xla(query, key, value, causal: bool, key_mask, bias) -> jax.Array:
  if key_mask is not None:
    mask = jnp.where(key_mask, 0.0, MASKED)[..., None, :]
    bias = mask if bias is None else bias + mask
  if not causal:
    return _attend(query, key, value, bias)
  length = query.shape[-2]
  chunks = []
  for start in range(0, length, CAUSAL_CHUNK):
    stop = min(start + CAUSAL_CHUNK, length)
    future = jnp.arange(start, stop)[:, None] < jnp.arange(stop)
    chunk_bias = jnp.where(future, MASKED, 0.0)  # [chunk, stop]
    if bias is not None:
      chunk_bias += jnp.broadcast_to(bias, (*bias.shape[:-2], length, length))[..., start:stop, :stop]
    keys, values = key[..., :stop, :], value[..., :stop, :]
    chunks.append(_attend(query[..., start:stop, :], keys, values, chunk_bias))
  return jnp.concatenate(chunks, axis=-2)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None) -> jax.Array:
  logits = jnp.einsum("...qd,...kd->...qk", query, key, preferred_element_type=jnp.float32)
  if bias is not None:
    logits += bias
  # Dividing after the product with the values touches head_dim numbers a query instead of all keys.
  weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
  total = weights.sum(axis=-1, keepdims=True)  # […, queries, 1]
  mixed = jnp.einsum(
    "...qk,...kd->...qd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
  )
  return (mixed / total).astype(value.dtype)


def _check_device(kernel: str) -> None:
  device = jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]  # of a topology, or here
  fits = "TPU" in device.device_kind if kernel == "flash" else "NVIDIA" in device.device_kind
  if not fits:
    needed = "TPUs" if kernel == "flash" else "NVIDIA GPUs"
    raise InputError(
      f"attention={kernel!r} is a kernel for {needed}, and the devices are {device.device_kind!r}; choose "
      "another --hardware, or --gin.ATTENTION=\"'xla'\""
    )


def _cudnn(query, key, value, causal: bool, key_mask, bias) -> jax.Array:
  """Through jax's binding, which takes `[batch, length, heads, head_dim]` and partitions itself."""
  lengths = None
  if key_mask is not None:  # a bias instead would be read and written for every query
    lengths = jnp.broadcast_to(key_mask.sum(-1, dtype=jnp.int32).reshape(-1), (len(query),))
  if bias is not None:
    bias = bias.astype(query.dtype)
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  x = jax.nn.dot_product_attention(
    query,
    key,
    value,
    bias,
    scale=1.0,
    is_causal=causal,
    key_value_seq_lengths=lengths,
    implementation="cudnn",
  )
  return x.swapaxes(1, 2)


def _sharded_flash(mesh, query, key, value, causal: bool, key_mask) -> jax.Array:
  """`flash` on each device's rows and heads: the compiler cannot partition a kernel by itself."""
  if key_mask is None:
    key_mask = jnp.ones((len(key), 1, key.shape[-2]), bool)
  heads = nn.logical_to_mesh_axes(("batch", "heads", "length", "kv"))
  rows = nn.logical_to_mesh_axes(("batch", None, "length"))
  attend = jax.shard_map(
    functools.partial(flash, causal=causal),
    mesh=mesh,
    in_specs=(heads, heads, heads, rows),
    out_specs=heads,
    check_vma=False,
  )
  return attend(query, key, value, key_mask)


def flash(
  query: jax.Array, key: jax.Array, value: jax.Array, key_mask: jax.Array, *, causal: bool
) -> jax.Array:
  """jax's TPU kernel (after Dao et al. 2022), on lengths padded to its tiles.

  Args:
    query, key, value: `[batch, heads, length, head_dim]`.
    key_mask: bool `[batch, 1, keys]`.
    causal: query i sees keys `0 … i`.

  Returns:
    As `query`.
  """
  from jax.experimental.pallas.ops.tpu import flash_attention as kernel  # only for TPUs

  queries = query.shape[-2]
  query, key, value = (_pad(x, axis=-2) for x in (query, key, value))
  key_mask = _pad(key_mask, axis=-1)
  # A key is seen by the queries of its own segment: all queries are in 1, padding is in 0.
  segments = kernel.SegmentIds(
    q=jnp.ones((len(query), query.shape[-2]), jnp.int32), kv=key_mask[:, 0].astype(jnp.int32)
  )
  q, k = (_block(x.shape[-2]) for x in (query, key))
  sizes = kernel.BlockSizes(
    block_b=1,
    block_q=q,
    block_k_major=k,
    block_k=k,
    block_q_major_dkv=q,
    block_q_dkv=q,
    block_k_major_dkv=k,
    block_k_dkv=k,
    block_q_dq=q,
    block_k_major_dq=k,
    block_k_dq=k,
  )
  x = kernel.flash_attention(query, key, value, segment_ids=segments, causal=causal, block_sizes=sizes)
  return x[..., :queries, :]


def _pad(x: jax.Array, axis: int) -> jax.Array:
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, -x.shape[axis] % _TILE)
  return jnp.pad(x, widths)


def _block(length: int) -> int:
  """The most whole tiles that divide `length`, up to the largest block."""
  return max(size for size in range(_TILE, _MAX_BLOCK + 1, _TILE) if length % size == 0)
