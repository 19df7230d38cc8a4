"""Residual vector quantisation: each level codes what the levels before it left over.

    r₀ = y;   cᵢ = nearest entry of codebook i to rᵢ;   rᵢ₊₁ = rᵢ − eᵢ[cᵢ];   ŷ = Σ eᵢ[cᵢ]

(SoundStream, §III-C.) Entry 0 of every codebook is the zero vector: a level that cannot help adds
nothing, so the error never grows from level to level, and silence stays silent.
"""

import numpy as np

from singsong_jax.audio import kmeans


def fit_codebooks(
  vectors: np.ndarray, *, num_levels: int, num_codes: int, seed: int, iterations: int
) -> np.ndarray:
  """Fits one codebook a level, each on the residuals of the level before.

  Few vectors leave codes over; these become the fitted ones at other signs and gains.

  Args:
    vectors: float32 `[n, dims]`, n ≥ 1.

  Returns:
    float32 `[num_levels, num_codes, dims]` with float16 precision, so that files can be half as
    large and still hold exactly what was fitted.
  """
  residuals = np.array(vectors, np.float32)
  codebooks = np.zeros((num_levels, num_codes, vectors.shape[-1]), np.float32)
  for level, codebook in enumerate(codebooks):
    fitted = kmeans.fit_kmeans(residuals, num_codes - 1, seed=seed + level, iterations=iterations)
    codebook[1:] = _stretch(fitted, num_codes - 1).astype(np.float16)
    residuals -= codebook[kmeans.nearest_centroid(residuals, codebook)]
  return codebooks


def _stretch(centroids: np.ndarray, count: int) -> np.ndarray:
  """`count` vectors: `centroids`, then the same times −1, 1/2, −1/2, 1/4, …"""
  copy, index = np.divmod(np.arange(count), len(centroids))
  gains = (-1.0) ** copy * 0.5 ** (copy // 2)
  return centroids[index] * gains[:, None]


def quantize(vectors: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
  """Greedy nearest entries.

  Args:
    vectors: float32 `[..., dims]`.
    codebooks: float32 `[levels, codes, dims]`.

  Returns:
    int32 `[..., levels]`.
  """
  residuals = np.array(vectors, np.float32)
  codes = []
  for codebook in codebooks:
    codes.append(kmeans.nearest_centroid(residuals, codebook))
    residuals -= codebook[codes[-1]]
  return np.stack(codes, axis=-1)


def dequantize(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
  """Sum of the chosen entries.

  Args:
    codes: int `[..., levels]`, levels ≤ those of `codebooks`, each in `0 … codes-1`.
    codebooks: float32 `[levels, codes, dims]`.

  Returns:
    float32 `[..., dims]`.
  """
  levels = range(codes.shape[-1])
  zeros = np.zeros((*codes.shape[:-1], codebooks.shape[-1]), np.float32)
  return sum((codebooks[level][codes[..., level]] for level in levels), start=zeros)
