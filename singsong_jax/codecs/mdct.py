"""MDCT codec: lapped transform, companding, residual VQ. Fitted in seconds, not trained.

    waveform [160000] → lapped transform X [500, 320]
      → sign(X)·|X|^p [500, 320] ⊕ loudness of 7 bands above 1.5 kHz [500, 7]
      → residual VQ → codes [500, 12]

Rates of the paper's SoundStream (SingSong, §3.2): 16 kHz, hop 320 = 50 Hz, 12 levels × 1024 codes.

A few codes a frame can say how loud a cymbal is, but not its samples. So the vector that is
quantised holds the loudness of the high bands beside the spectrum, and the decoder fills with noise
what a band lacks of its loudness. More levels code more of the spectrum and leave less to fill.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import scipy.signal

from singsong_jax.audio import fitted_file
from singsong_jax.audio.checks import require_finite_samples
from singsong_jax.codecs import lapped_transform, rvq
from singsong_jax.codecs.base import check_codes
from singsong_jax.errors import InputError

KIND = "mdct"
_NOISE_FRAMES = 3000  # then it repeats


@dataclasses.dataclass(frozen=True, kw_only=True)
class MdctSettings:
  """Geometry and quantiser.

  Attributes:
    exponent: p of the companding, 1 = none. Below 1 quiet sounds keep their share of the codes
      beside loud ones.
    num_noise_bands: bands of equal width on a logarithmic scale, from `noise_from_hz` up.
    loudness_exponent: of the bands' root mean square.
    loudness_weight: of the bands beside the spectrum in the quantiser's distance.
    iterations: of k-means, at each level.
    max_fit_frames: a random subset of this many frames of the corpus is fitted.
    sweep_seconds: length of each of four sine sweeps that are fitted beside the corpus.
  """

  sample_rate_hz: int = 16_000
  hop_samples: int = 320
  num_levels: int = 12
  num_codes: int = 1024
  exponent: float = 0.65
  num_noise_bands: int = 7
  noise_from_hz: float = 1500.0
  loudness_exponent: float = 0.3
  loudness_weight: float = 0.5
  iterations: int = 4
  max_fit_frames: int = 16_384
  sweep_seconds: float = 10.0

  def fit(self, clips: Iterable[np.ndarray], seed: int) -> "MdctCodec":
    """See `fit_mdct_codec`; with `describe` this makes it an `audio.specs.Unfitted`."""
    return fit_mdct_codec(list(clips), seed, self)

  def describe(self) -> dict[str, Any]:
    return {"kind": KIND, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MdctCodec(fitted_file.Stored):
  """See the module's docstring.

  Attributes:
    settings: as fitted.
    codebooks: float32 `[num_levels, num_codes, hop_samples + num_noise_bands]`, float16 precision.
    source: what it was fitted on.
  """

  settings: MdctSettings
  codebooks: np.ndarray
  source: dict

  name = KIND
  context_frames = 1  # the lapped transform's

  @property
  def sample_rate_hz(self) -> int:
    return self.settings.sample_rate_hz

  @property
  def frame_rate_hz(self) -> float:
    return self.settings.sample_rate_hz / self.settings.hop_samples

  @property
  def num_levels(self) -> int:
    return self.settings.num_levels

  @property
  def num_codes(self) -> int:
    return self.settings.num_codes

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Waveform to codes.

    Args:
      waveform: float `[..., samples]`, full scale ±1; padded with zeros to whole frames.

    Returns:
      int32 `[..., frames, num_levels]`, frames = ceil(samples / hop).

    Raises:
      InputError: a sample is NaN or infinite.
    """
    waveform = np.asarray(waveform, np.float32)
    require_finite_samples(waveform)
    return rvq.quantize(_analyze(waveform, self.settings), self.codebooks)

  def decode(self, codes: np.ndarray, first_frame: int = 0) -> np.ndarray:
    """Codes to waveform.

    Args:
      codes: int `[..., frames, levels]`, 1 ≤ levels ≤ num_levels: the leading ones.
      first_frame: place of `codes` in a longer stream: the noise depends on it.

    Returns:
      float32 `[..., frames · hop]`; may exceed ±1 a little where the input came close to it.

    Raises:
      InputError: too many levels, or a code out of range.
    """
    codes = np.asarray(codes)
    check_codes(codes, self)
    return _synthesize(rvq.dequantize(codes, self.codebooks), self.settings, first_frame)

  def _file(self) -> fitted_file.FittedFile:
    arrays = {"codebooks": self.codebooks.astype(np.float16)}
    settings = dataclasses.asdict(self.settings)
    return fitted_file.FittedFile(kind=KIND, settings=settings, source=self.source, arrays=arrays)

  @classmethod
  def from_file(cls, file: fitted_file.FittedFile) -> Self:
    """Raises KeyError, TypeError or ValueError when the content does not fit together."""
    settings = MdctSettings(**file.settings)
    dims = settings.hop_samples + settings.num_noise_bands
    shape = (settings.num_levels, settings.num_codes, dims)
    codebooks = file.arrays["codebooks"].astype(np.float32)
    if codebooks.shape != shape:
      raise ValueError(f"codebooks have shape {codebooks.shape}, expected {shape}")
    return cls(settings=settings, codebooks=codebooks, source=file.source)


def fit_mdct_codec(
  clips: Sequence[np.ndarray], seed: int = 0, settings: MdctSettings = MdctSettings()
) -> MdctCodec:
  """Fits the codebooks on `clips`, each float `[samples]` at `settings.sample_rate_hz`.

  Any amount of audio will do; below about 4 · num_codes frames quality suffers.

  Raises:
    InputError: no clips, a clip with NaN or infinite samples, or nothing but silence.
  """
  vectors = _gather_vectors(clips, settings)
  rng = np.random.default_rng(seed)
  if len(vectors) > settings.max_fit_frames:
    vectors = vectors[rng.choice(len(vectors), settings.max_fit_frames, replace=False)]
  codebooks = rvq.fit_codebooks(
    np.concatenate([vectors, *_analyze(_sweeps(settings, rng), settings)]),
    num_levels=settings.num_levels,
    num_codes=settings.num_codes,
    seed=seed,
    iterations=settings.iterations,
  )
  source = {"clips": len(clips), "frames": len(vectors), "seed": seed}
  return MdctCodec(settings=settings, codebooks=codebooks, source=source)


def _gather_vectors(clips: Sequence[np.ndarray], settings: MdctSettings) -> np.ndarray:
  """Vectors to quantise of all clips, silent frames left out: float32 `[frames, dims]`."""
  if not len(clips):
    raise InputError("cannot fit a codec on 0 clips; give at least one")
  for index, clip in enumerate(clips):
    if not np.isfinite(clip).all():
      raise InputError(f"clip {index} of {len(clips)} has samples that are NaN or infinite")
  vectors = np.concatenate([_analyze(clip, settings) for clip in clips])
  vectors = vectors[np.any(vectors != 0, axis=-1)]
  if not len(vectors):
    raise InputError(f"cannot fit a codec: all {len(clips)} clips are silent")
  return vectors


def _sweeps(settings: MdctSettings, rng: np.random.Generator) -> np.ndarray:
  """Sine sweeps up and down, swelling from −40 dB to full scale and back: float `[sweeps, samples]`.

  Fitted along with the corpus, so that a pitch or a level it lacks is coded as well as the others.
  """
  times = np.arange(settings.sweep_seconds * settings.sample_rate_hz) / settings.sample_rate_hz
  low_hz, high_hz = 40.0, 0.49 * settings.sample_rate_hz
  sweeps = []
  for method in ("linear", "logarithmic"):
    for start_hz, stop_hz in ((low_hz, high_hz), (high_hz, low_hz)):
      phase, swell_phase = rng.uniform(0, 360, size=2)
      sine = scipy.signal.chirp(times, start_hz, times[-1], stop_hz, method=method, phi=phase)
      level_db = 20 * np.cos(2 * np.pi * times + np.deg2rad(swell_phase)) - 20
      sweeps.append(sine * 10 ** (level_db / 20))
  return np.stack(sweeps)


def compand(values: np.ndarray, exponent: float) -> np.ndarray:
  """sign(x)·|x|^exponent; its own inverse with 1/exponent."""
  return np.copysign(np.abs(values) ** np.float32(exponent), values)


def _analyze(waveform: np.ndarray, settings: MdctSettings) -> np.ndarray:
  """`[..., samples]` to the vectors that are quantised: float32 `[..., frames, hop + bands]`."""
  spectrum = lapped_transform.transform(lapped_transform.split_blocks(waveform, settings.hop_samples))
  loudness = _band_rms(spectrum, settings) ** np.float32(settings.loudness_exponent)
  companded = compand(spectrum, settings.exponent)
  return np.concatenate([companded, loudness * _band_weights(settings)], axis=-1)


def _synthesize(vectors: np.ndarray, settings: MdctSettings, first_frame: int) -> np.ndarray:
  """Vectors `[..., frames, hop + bands]` to float32 `[..., frames · hop]`."""
  companded, loudness = np.split(vectors, [settings.hop_samples], axis=-1)
  spectrum = compand(companded, 1 / settings.exponent)
  # A sum of codebook entries can fall below 0, where loudness has no meaning.
  wanted = (np.maximum(loudness, 0) / _band_weights(settings)) ** (1 / settings.loudness_exponent)
  missing = np.sqrt(np.maximum(wanted**2 - _band_rms(spectrum, settings) ** 2, 0))
  spectrum[..., _band_edges(settings)[0] :] += _noise(missing, settings, first_frame)
  blocks = lapped_transform.inverse_transform(spectrum)
  return blocks.reshape(*blocks.shape[:-2], blocks.shape[-2] * blocks.shape[-1])


def _noise(band_rms: np.ndarray, settings: MdctSettings, first_frame: int) -> np.ndarray:
  """White noise of the given level in each band, the same at a frame every time.

  `[..., frames, bands]` to `[..., frames, bins]`, the bins those of the bands.
  """
  widths = np.diff(_band_edges(settings))
  frames = (first_frame + np.arange(band_rms.shape[-2])) % _NOISE_FRAMES
  return _unit_noise(int(widths.sum()))[frames] * np.repeat(band_rms, widths, axis=-1)


@functools.cache
def _unit_noise(num_bins: int) -> np.ndarray:
  return np.random.default_rng(0).standard_normal((_NOISE_FRAMES, num_bins), np.float32)


def _band_edges(settings: MdctSettings) -> np.ndarray:
  """First bin of each noise band and, last, the number of bins: int `[bands + 1]`."""
  first = settings.noise_from_hz / (settings.sample_rate_hz / 2) * settings.hop_samples
  return np.geomspace(first, settings.hop_samples, settings.num_noise_bands + 1).round().astype(int)


def _band_rms(spectrum: np.ndarray, settings: MdctSettings) -> np.ndarray:
  """Root mean square of each noise band: `[..., bins]` to `[..., bands]`."""
  edges = _band_edges(settings)
  return np.sqrt(np.add.reduceat(np.square(spectrum), edges[:-1], axis=-1) / np.diff(edges)).astype(
    np.float32
  )


def _band_weights(settings: MdctSettings) -> np.ndarray:
  """A band counts by the bins it stands for: float32 `[bands]`."""
  return (settings.loudness_weight * np.sqrt(np.diff(_band_edges(settings)))).astype(np.float32)
