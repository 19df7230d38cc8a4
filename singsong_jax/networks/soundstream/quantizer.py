"""Residual vector quantizer with moving-average codebooks (SoundStream, §III-C).

    r₀ = y;   cᵢ = nearest entry of codebook i to rᵢ;   rᵢ₊₁ = rᵢ − sg(eᵢ[cᵢ]);   ŷ = Σ eᵢ[cᵢ]

The decoder sees y + sg(ŷ − y), so the gradient goes through as if nothing were quantised. sg in the residuals
keeps the commitment loss of one level out of the levels before it: EnCodec's published code lacks it.

Codebooks learn without gradients, from the residuals that chose each entry:

    n ← γ n + (1 − γ) count      m ← γ m + (1 − γ) Σ r      e = m / [(n + ε) / (Σn + Nε) · Σn]

An entry whose n falls below a threshold is dead, and becomes a residual of the batch.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

_EPSILON = 1e-5  # Laplace smoothing of the counts
_KMEANS_ITERATIONS = 10
_DEAD_SHARE = 0.3  # of an equal share of the batch


@flax.struct.dataclass
class Codebooks:
  """All levels of a quantizer; all zeros until they are fitted for the first time.

  Attributes:
    entries: float32 `[levels, codes, dims]`.
    counts: n, float32 `[levels, codes]`.
    sums: m, float32 `[levels, codes, dims]`.
  """

  entries: jax.Array
  counts: jax.Array
  sums: jax.Array


class Quantized(NamedTuple):
  """What `quantize` finds for vectors `[..., dims]`.

  Attributes:
    vectors: ŷ `[..., dims]`, the sum of each vector's first `num_levels` entries; without gradient.
    codes: int32 `[..., levels]`, of all levels.
    residuals: r₀ … `[levels, ..., dims]`; gradients go through each to the vectors, not to other levels.
    chosen: entries `[levels, ..., dims]`, without gradient.
    active: bool `[levels, ...]`, whether a level is one of the vector's `num_levels`.
  """

  vectors: jax.Array
  codes: jax.Array
  residuals: jax.Array
  chosen: jax.Array
  active: jax.Array


def empty_codebooks(num_levels: int, num_codes: int, dims: int) -> Codebooks:
  """Of a quantizer that has not been fitted: all zeros."""
  entries = jnp.zeros((num_levels, num_codes, dims))
  return Codebooks(entries, jnp.zeros((num_levels, num_codes)), entries)


def nearest(vectors: jax.Array, entries: jax.Array) -> jax.Array:
  """Index of the nearest entry (Euclid; the first of equals): `[..., dims]`, `[codes, dims]` → int32."""
  # argmin |r − e|² = argmax r·e − |e|²/2: the term |r|² is the same for every e.
  closeness = vectors @ entries.T - 0.5 * jnp.sum(jnp.square(entries), axis=-1)
  return jnp.argmax(closeness, axis=-1).astype(jnp.int32)


def quantize(vectors: jax.Array, entries: jax.Array, num_levels: jax.Array | int | None = None) -> Quantized:
  """Greedy nearest entries, level after level.

  Args:
    vectors: float32 `[..., dims]`.
    entries: float32 `[levels, codes, dims]`.
    num_levels: of each vector, broadcast to `[...]`: how many levels make up ŷ; all when None.
  """
  levels = len(entries)
  num_levels = jnp.broadcast_to(levels if num_levels is None else num_levels, vectors.shape[:-1])
  # The quantizer's own arithmetic is without gradient; residuals get theirs below, all at once.
  rest = jax.lax.stop_gradient(vectors)
  entries = jax.lax.stop_gradient(entries)

  def level(carry, numbered_entries):
    rest, total = carry
    number, entries = numbered_entries
    codes = nearest(rest, entries)
    chosen = entries[codes]
    active = number < num_levels
    total = total + jnp.where(active[..., None], chosen, 0)
    return (rest - chosen, total), (codes, total, chosen, active)

  zeros = jnp.zeros_like(rest)
  numbered = (jnp.arange(levels), entries)
  (_, total), (codes, _, chosen, active) = jax.lax.scan(level, (rest, zeros), numbered)
  before = jnp.cumsum(chosen, axis=0) - chosen  # Σ of the levels before
  return Quantized(total, jnp.moveaxis(codes, 0, -1), vectors - before, chosen, active)


def straight_through(vectors: jax.Array, quantized: jax.Array) -> jax.Array:
  """`quantized`, with the gradient of `vectors`."""
  return vectors + jax.lax.stop_gradient(quantized - vectors)


def commitment(quantized: Quantized) -> jax.Array:
  """Mean over the active levels of |r − e|² / dims, for each vector: `[...]`."""
  squares = jnp.mean(jnp.square(quantized.residuals - quantized.chosen), axis=-1)  # [levels, ...]
  active = quantized.active.astype(jnp.float32)
  return jnp.sum(squares * active, axis=0) / jnp.sum(active, axis=0)


def dequantize(codes: jax.Array, entries: jax.Array) -> jax.Array:
  """Sum of the chosen entries of the leading levels: int `[..., levels]` to float32 `[..., dims]`."""
  return sum((entries[level][codes[..., level]] for level in range(codes.shape[-1])), jnp.zeros(()))


def update_codebooks(
  codebooks: Codebooks, quantized: Quantized, rng: jax.Array, *, decay: float, max_threshold: float
) -> Codebooks:
  """One step of the moving averages, then dead entries are replaced.

  Under `jit` the batch is that of all devices, so that every device has the same codebooks.

  Args:
    codebooks: of the step before.
    quantized: of the batch. A level learns from the vectors in which it is active.
    rng: draws the replacements.
    decay: γ.
    max_threshold: an entry is dead when its n is below this, or below 0.3 of an equal share of the batch
      where that is less: in a small batch every entry would be dead by the paper's count of 2.
  """
  levels, dims = len(codebooks.entries), codebooks.entries.shape[-1]
  residuals = jax.lax.stop_gradient(quantized.residuals).reshape(levels, -1, dims)
  active = quantized.active.reshape(levels, -1).astype(jnp.float32)
  codes = jnp.moveaxis(quantized.codes, -1, 0).reshape(levels, -1)

  def level(counts, sums, residuals, active, codes, rng):
    num_codes = len(counts)
    batch_counts = jax.ops.segment_sum(active, codes, num_codes)
    batch_sums = jax.ops.segment_sum(residuals * active[:, None], codes, num_codes)
    counts = decay * counts + (1 - decay) * batch_counts
    sums = decay * sums + (1 - decay) * batch_sums
    share = jnp.sum(active) / num_codes
    dead = counts < jnp.minimum(max_threshold, _DEAD_SHARE * share)
    # The more active rows first, in random order: with fewer rows than dead entries they repeat.
    drawn = jnp.argsort(jax.random.uniform(rng, active.shape) - active)[jnp.arange(num_codes) % len(active)]
    counts = jnp.where(dead, share, counts)
    sums = jnp.where(dead[:, None], residuals[drawn] * share, sums)
    return _entries(counts, sums), counts, sums

  keys = jax.random.split(rng, levels)
  return Codebooks(*jax.vmap(level)(codebooks.counts, codebooks.sums, residuals, active, codes, keys))


def is_fitted(codebooks: Codebooks) -> jax.Array:
  """bool scalar."""
  return jnp.any(codebooks.counts > 0)


def usage_and_perplexity(codebooks: Codebooks) -> tuple[jax.Array, jax.Array]:
  """Of each level by the moving counts, `[levels]`: share of entries with at least a tenth of an equal share,
  and the exponential of the entropy."""
  shares = codebooks.counts / jnp.maximum(jnp.sum(codebooks.counts, axis=1, keepdims=True), _EPSILON)
  used = jnp.mean(shares >= 0.1 / shares.shape[1], axis=1)
  entropy = -jnp.sum(shares * jnp.log(jnp.maximum(shares, 1e-12)), axis=1)
  return used, jnp.exp(entropy)


def _entries(counts: jax.Array, sums: jax.Array) -> jax.Array:
  total = jnp.sum(counts)
  smoothed = (counts + _EPSILON) / (total + len(counts) * _EPSILON) * total
  return sums / smoothed[:, None]


def kmeans_codebooks(rng: jax.Array, vectors: jax.Array, num_levels: int, num_codes: int) -> Codebooks:
  """Codebooks fitted by k-means, each on the residuals of the level before.

  Args:
    rng: draws the first centroids among the vectors.
    vectors: float32 `[n, dims]`; with n < num_codes some entries begin as equals, and die in training.
  """
  count = len(vectors)

  def level(rest, rng):
    start = rest[jax.random.permutation(rng, count)[jnp.arange(num_codes) % count]]

    def lloyd(_, entries):
      codes = nearest(rest, entries)
      counts = jax.ops.segment_sum(jnp.ones(count), codes, num_codes)
      sums = jax.ops.segment_sum(rest, codes, num_codes)
      means = sums / jnp.maximum(counts, 1)[:, None]
      return jnp.where(counts[:, None] > 0, means, entries)

    entries = jax.lax.fori_loop(0, _KMEANS_ITERATIONS, lloyd, start)
    return rest - entries[nearest(rest, entries)], entries

  _, entries = jax.lax.scan(level, vectors, jax.random.split(rng, num_levels))
  counts = jnp.ones((num_levels, num_codes))
  return Codebooks(entries, counts, entries)
