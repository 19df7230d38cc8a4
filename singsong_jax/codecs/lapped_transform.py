"""The MDCT with a sine window, as an orthogonal transform of whole blocks.

Samples mirrored about each edge between two blocks are rotated into each other, then each block
gets a DCT-IV (Malvar, "Signal Processing with Lapped Transforms", 1992). The two outer edges are
left as they are: n blocks of samples give n frames, neither one more nor one less, and the transform
is orthonormal to the last sample. Coefficient k of `hop` lies at (k + 1/2) / hop of half the sample
rate.
"""

import numpy as np
import scipy.fft


def split_blocks(waveform: np.ndarray, hop_samples: int) -> np.ndarray:
  """`[..., samples]` to float32 `[..., ceil(samples / hop), hop]`, padded with zeros on the right."""
  waveform = np.asarray(waveform, np.float32)
  padding = [(0, 0)] * (waveform.ndim - 1) + [(0, -waveform.shape[-1] % hop_samples)]
  padded = np.pad(waveform, padding)
  return padded.reshape(*padded.shape[:-1], padded.shape[-1] // hop_samples, hop_samples)


def transform(blocks: np.ndarray) -> np.ndarray:
  """Orthonormal MDCT: `[..., blocks, hop]` samples to as many coefficients, low to high frequency."""
  return scipy.fft.dct(_rotate_edges(blocks, inverse=False), type=4, norm="ortho")


def inverse_transform(spectrum: np.ndarray) -> np.ndarray:
  """Inverse of `transform`."""
  return _rotate_edges(scipy.fft.dct(spectrum, type=4, norm="ortho"), inverse=True)


def _rotate_edges(blocks: np.ndarray, *, inverse: bool) -> np.ndarray:
  """Rotates each pair of samples mirrored about an inner edge, by the sine window's angle.

  The n-th sample left of an edge, a, and right of it, b, become c·a − s·b and s·a + c·b: what the
  DCT-IV, odd at its right edge and even at its left one, continues smoothly into the neighbour.
  """
  hop = blocks.shape[-1]
  half = hop // 2
  angles = np.pi / (2 * hop) * (half - np.arange(half) - 0.5)
  c, s = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
  s = -s if inverse else s
  rotated = blocks.copy()
  left = blocks[..., :-1, : hop - half - 1 : -1]  # [..., edges, half], outward from the edge
  right = blocks[..., 1:, :half]
  rotated[..., :-1, : hop - half - 1 : -1] = c * left - s * right
  rotated[..., 1:, :half] = s * left + c * right
  return rotated
