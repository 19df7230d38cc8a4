"""Spectra as functions of jax: STFT, mel filters, log-mel features, and distances that losses are made of."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Of magnitudes, before logarithms: −60 dB. With DAC's lower one most of the gradient is of what nobody hears.
_FLOOR = 1e-3


class MelScale(NamedTuple):
  """One resolution of a multi-resolution loss: window and hop in samples, number of mel bands."""

  window: int
  hop: int
  num_mels: int


# Descript's DAC: windows and bands of its MelSpectrogramLoss, hops of a quarter.
DAC_SCALES = tuple(
  MelScale(2 ** (5 + i), 2 ** (3 + i), mels) for i, mels in enumerate((5, 10, 20, 40, 80, 160, 320))
)
# SoundStream, equation 4: windows 2⁶ … 2¹¹, hops of a quarter, 64 bands each.
PAPER_SCALES = tuple(MelScale(2**i, 2**i // 4, 64) for i in range(6, 12))


def stft(waveform: jax.Array, window: int, hop: int, fft_size: int | None = None) -> jax.Array:
  """Hann-windowed spectra (periodic window, sum 1) of reflected edges.

  Args:
    waveform: float32 `[B, T]`, T > window / 2.

  Returns:
    complex64 `[B, T // hop + 1, fft_size / 2 + 1]`; a full-scale sine peaks at 1/2.
  """
  padded = jnp.pad(waveform, ((0, 0), (window // 2, window // 2)), mode="reflect")
  return _spectra(padded, window, hop, fft_size or window)


def _spectra(waveform: jax.Array, window: int, hop: int, fft_size: int) -> jax.Array:
  """As `stft`, of the frames that the waveform has."""
  hann = np.hanning(window + 1)[:-1].astype(np.float32)
  return jnp.fft.rfft(frames_of(waveform, window, hop) * (hann / hann.sum()), n=fft_size)


def _in_bands(spectra: jax.Array, sample_rate_hz: int, fft_size: int, num_mels: int) -> jax.Array:
  """Magnitudes in mel bands."""
  power = jnp.square(spectra.real) + jnp.square(spectra.imag)
  magnitudes = jnp.sqrt(power + 1e-12)  # a gradient at 0
  return magnitudes @ mel_filters(sample_rate_hz, fft_size, num_mels)


def frames_of(waveform: jax.Array, window: int, hop: int) -> jax.Array:
  """`[B, T]` to overlapping `[B, (T − window) // hop + 1, window]`."""
  unit = math.gcd(window, hop)  # slices of blocks: a gather would be slow
  blocks = waveform[:, : waveform.shape[1] // unit * unit].reshape(len(waveform), -1, unit)
  count = (waveform.shape[1] - window) // hop + 1
  step = hop // unit
  columns = [blocks[:, i : i + (count - 1) * step + 1 : step] for i in range(window // unit)]
  return jnp.concatenate(columns, axis=-1)


@functools.lru_cache
def mel_filters(sample_rate_hz: int, fft_size: int, num_mels: int) -> np.ndarray:
  """Triangular filters from 0 Hz to half the rate (HTK scale), each of sum 1: float32 `[bins, mels]`.

  At low frequencies and small windows a filter can fall between two bins: those without any are left out, or
  their logarithms would be of nothing, so there may be fewer than `num_mels`.
  """
  to_mel = lambda hz: 2595 * np.log10(1 + hz / 700)
  mels = np.linspace(0, to_mel(sample_rate_hz / 2), num_mels + 2)
  edges_hz = 700 * (10 ** (mels / 2595) - 1)
  bins_hz = np.fft.rfftfreq(fft_size, 1 / sample_rate_hz)[:, None]
  rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
  falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
  filters = np.maximum(0, np.minimum(rising, falling))
  sums = filters.sum(axis=0)
  return (filters[:, sums > 0] / sums[sums > 0]).astype(np.float32)


def mel_spectrum(waveform: jax.Array, scale: MelScale, sample_rate_hz: int) -> jax.Array:
  """Magnitudes in mel bands: float32 `[B, T]` to `[B, frames, bands]`."""
  # Small windows are padded, so that few bands are empty.
  fft_size = max(512, scale.window)
  spectra = stft(waveform, scale.window, scale.hop, fft_size)
  return _in_bands(spectra, sample_rate_hz, fft_size, scale.num_mels)


def log_mel(waveform: jax.Array, *, sample_rate_hz: int, num_mels: int, window: int, hop: int) -> jax.Array:
  """Log-mel features whose i-th frame is of the samples from `i · hop` on.

  Args:
    waveform: float32 `[B, T]`; T is a multiple of the hop. Zeros are assumed behind it.

  Returns:
    float32 `[B, T / hop, num_mels]`: natural logarithm of the magnitude in each band plus 10⁻³.
  """
  padded = jnp.pad(waveform, ((0, 0), (0, max(0, window - hop))))
  fft_size = 2 ** math.ceil(math.log2(window))
  spectra = _spectra(padded, window, hop, fft_size)
  return jnp.log(_in_bands(spectra, sample_rate_hz, fft_size, num_mels) + _FLOOR)


def log_mel_distance(
  waveform: jax.Array, other: jax.Array, scales: Sequence[MelScale], sample_rate_hz: int
) -> jax.Array:
  """DAC's: mean |Δ log₁₀ mel| of each scale, summed over scales: `[B]`."""

  def distance(scale):
    a, b = (jnp.log10(_FLOOR + mel_spectrum(x, scale, sample_rate_hz)) for x in (waveform, other))
    return jnp.mean(jnp.abs(a - b), axis=(1, 2))

  return sum(map(distance, scales))


def papers_distance(waveform: jax.Array, other: jax.Array, sample_rate_hz: int) -> jax.Array:
  """SoundStream's equation 4, with means where it has sums: `[B]`.

      Σ_s mean_t [ mean |S − Ŝ| + α_s √(mean (log S − log Ŝ)²) ],   α_s = √(s / 2)

  With sums the weights of the other losses would depend on the length of the segments.
  """

  def distance(scale):
    a, b = (mel_spectrum(x, scale, sample_rate_hz) for x in (waveform, other))
    linear = jnp.mean(jnp.abs(a - b), axis=(1, 2))
    squares = jnp.mean(jnp.square(jnp.log(a + _FLOOR) - jnp.log(b + _FLOOR)), axis=2)
    return linear + jnp.sqrt(scale.window / 2) * jnp.mean(jnp.sqrt(squares + 1e-12), axis=1)

  return sum(map(distance, PAPER_SCALES))


def si_sdr_db(waveform: jax.Array, decoded: jax.Array) -> jax.Array:
  """SI-SDR in dB (Le Roux et al. 2019) of waveforms without their means: `[B, T]` to `[B]`."""
  reference = waveform - jnp.mean(waveform, axis=1, keepdims=True)
  estimate = decoded - jnp.mean(decoded, axis=1, keepdims=True)
  power = jnp.sum(jnp.square(reference), axis=1, keepdims=True)
  target = jnp.sum(reference * estimate, axis=1, keepdims=True) / (power + 1e-9) * reference
  error = jnp.sum(jnp.square(estimate - target), axis=1)
  return 10 * jnp.log10((jnp.sum(jnp.square(target), axis=1) + 1e-9) / (error + 1e-9))
