"""Semantic codes from log-mel and chroma features: k-means, exactly one code every 40 ms.

    waveform [160000] → frames [250, 4096], centred on the 640 samples each stands for
      → 40 log-mel bands ⊕ 12 chroma → per-dimension zero mean, unit variance over the corpus
      → nearest of 1024 centroids → codes [250]

Takes the place of w2v-BERT and its k-means (SingSong, §3.2; AudioLM, §III-B), at the same rate and
number of codes. As there, normalisation is per dimension over the corpus, not per frame.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import scipy.fft
import scipy.signal

from singsong_jax.audio import fitted_file, kmeans
from singsong_jax.audio.checks import require_finite_samples
from singsong_jax.errors import InputError
from singsong_jax.semantics.sketch import sketch

KIND = "logmel"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMelSettings:
  """Geometry and features.

  Attributes:
    mel_window_samples: short, for onsets; `chroma_window_samples`: long, to tell low notes apart.
    floor: added to mel power (full scale 1) before the logarithm: −60 dB, under the Noisy vocals'
      noise.
    chroma_weight: of normalised chroma beside normalised log-mel. √(40/12) ≈ 1.8 gives both the same
      share of the distance; more lets a code tell the chord rather than the sound.
    iterations: of k-means.
    max_fit_frames: a random subset of this many frames is fitted.
  """

  sample_rate_hz: int = 16_000
  hop_samples: int = 640
  num_mels: int = 40
  mel_window_samples: int = 1280
  chroma_window_samples: int = 4096
  floor: float = 1e-6
  chroma_weight: float = 2.5
  iterations: int = 20
  max_fit_frames: int = 65_536


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LogMelEncoder(fitted_file.Stored):
  """See the module's docstring.

  Attributes:
    settings: as fitted.
    mel_filters: float32 `[mels, mel_window/2 + 1]`, on power.
    chroma_filters: float32 `[12, chroma_window/2 + 1]`, on magnitude.
    mean, scale: float32 `[features]`; normalised = (features − mean) · scale.
    centroids: float32 `[codes, features]`, of normalised features.
    source: what it was fitted on.
  """

  settings: LogMelSettings
  mel_filters: np.ndarray
  chroma_filters: np.ndarray
  mean: np.ndarray
  scale: np.ndarray
  centroids: np.ndarray
  source: dict

  name = KIND
  num_levels = 1  # of what `decode` takes
  context_frames = 1

  @property
  def sample_rate_hz(self) -> int:
    return self.settings.sample_rate_hz

  @property
  def frame_rate_hz(self) -> float:
    return self.settings.sample_rate_hz / self.settings.hop_samples

  @property
  def num_codes(self) -> int:
    return len(self.centroids)

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Waveform to codes.

    Args:
      waveform: float `[..., samples]`, full scale ±1; zeros are assumed beyond both ends.

    Returns:
      int32 `[..., frames]`, frames = ceil(samples / hop).

    Raises:
      InputError: a sample is NaN or infinite.
    """
    require_finite_samples(waveform)
    features = extract_features(waveform, self.settings, self.mel_filters, self.chroma_filters)
    return kmeans.nearest_centroid((features - self.mean) * self.scale, self.centroids)

  def decode(self, codes: np.ndarray, first_frame: int = 0) -> np.ndarray:
    """What codes say, as a sketch in tones and noise, for models that make no acoustic codes.

    Args:
      codes: int `[..., frames, 1]`.
      first_frame: place of `codes` in a longer stream; pieces fit together as a codec's do.

    Returns:
      float32 `[..., frames · hop]`.

    Raises:
      InputError: codes out of range, or of more levels than one.
    """
    codes = np.asarray(codes)
    if codes.shape[-1] != 1 or (codes.size and not 0 <= codes.min() <= codes.max() < self.num_codes):
      raise InputError(
        f"codes {codes.shape} span {codes.min()} … {codes.max()}: [frames, 1] of 0 … {self.num_codes - 1}"
      )
    if codes.ndim > 2:
      return np.stack([self.decode(part, first_frame) for part in codes])
    features = self.centroids[codes[:, 0]] / self.scale + self.mean
    log_mel, shares = np.split(features, [self.settings.num_mels], axis=1)
    settings = self.settings
    return sketch(
      log_mel,
      shares,
      self.mel_filters,
      settings.floor,
      settings.sample_rate_hz,
      settings.hop_samples,
      first_frame,
    )

  def _file(self) -> fitted_file.FittedFile:
    settings = dataclasses.asdict(self.settings)
    arrays = {name: getattr(self, name) for name in _ARRAYS}
    return fitted_file.FittedFile(kind=KIND, settings=settings, source=self.source, arrays=arrays)

  @classmethod
  def from_file(cls, file: fitted_file.FittedFile) -> Self:
    """Raises KeyError, TypeError or ValueError when the content does not fit together."""
    arrays = {name: file.arrays[name] for name in _ARRAYS}
    encoder = cls(settings=LogMelSettings(**file.settings), source=file.source, **arrays)
    encoder.encode(np.zeros(1, np.float32))  # shapes that do not fit raise here
    return encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMelRecipe:
  """An encoder before it has heard songs: an `audio.specs.Unfitted`. See `fit_logmel_encoder`."""

  num_codes: int = 1024
  settings: LogMelSettings = LogMelSettings()

  @property
  def sample_rate_hz(self) -> int:
    return self.settings.sample_rate_hz

  def fit(self, clips: Iterable[np.ndarray], seed: int) -> LogMelEncoder:
    return fit_logmel_encoder(list(clips), seed, self.num_codes, self.settings)

  def describe(self) -> dict[str, Any]:
    return {"kind": KIND, **dataclasses.asdict(self)}


_ARRAYS = ("mel_filters", "chroma_filters", "mean", "scale", "centroids")


def fit_logmel_encoder(
  clips: Sequence[np.ndarray],
  seed: int = 0,
  num_codes: int = 1024,
  settings: LogMelSettings = LogMelSettings(),
) -> LogMelEncoder:
  """Fits normalisation and centroids on `clips`, each float `[samples]` at `settings.sample_rate_hz`.

  Give vocals with noise as in training and instrumentals alike: one codebook serves the model's
  input and its target. With few distinct frames some codes stay unused.

  Raises:
    InputError: no clips, a clip with NaN or infinite samples, or nothing but silence.
  """
  filters = make_filters(settings)
  features = _gather_features(clips, settings, filters)
  mean = features.mean(axis=0)
  scale = _group_weights(settings) / np.maximum(features.std(axis=0), 1e-3)
  rng = np.random.default_rng(seed)
  if len(features) > settings.max_fit_frames:
    features = features[np.sort(rng.choice(len(features), settings.max_fit_frames, replace=False))]
  fitted = kmeans.fit_kmeans((features - mean) * scale, num_codes, seed=seed, iterations=settings.iterations)
  return LogMelEncoder(
    settings=settings,
    mel_filters=filters[0],
    chroma_filters=filters[1],
    mean=mean,
    scale=scale.astype(np.float32),
    # Copies of the first centroid are never the nearest: codes without a meaning of their own.
    centroids=np.concatenate([fitted, np.repeat(fitted[:1], num_codes - len(fitted), axis=0)]),
    source={"clips": len(clips), "frames": len(features), "seed": seed},
  )


def _gather_features(
  clips: Sequence[np.ndarray], settings: LogMelSettings, filters: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
  """Features of all clips: float32 `[frames, features]`."""
  if not len(clips):
    raise InputError("cannot fit a semantic encoder on 0 clips; give at least one")
  for index, clip in enumerate(clips):
    if not np.isfinite(clip).all():
      raise InputError(f"clip {index} of {len(clips)} has samples that are NaN or infinite")
  if not any(np.any(clip) for clip in clips):
    raise InputError(f"cannot fit a semantic encoder: all {len(clips)} clips are silent")
  return np.concatenate([extract_features(clip, settings, *filters) for clip in clips])


def _group_weights(settings: LogMelSettings) -> np.ndarray:
  """1 for each mel band, `chroma_weight` for each pitch class: `[features]`."""
  return np.repeat([1.0, settings.chroma_weight], [settings.num_mels, 12])


def make_filters(settings: LogMelSettings) -> tuple[np.ndarray, np.ndarray]:
  """Mel `[mels, bins]` and chroma `[12, bins]` filters, float32; row 0 of chroma is C, A4 = 440 Hz."""
  import librosa  # only fitting needs it: slow to import

  mel = librosa.filters.mel(
    sr=settings.sample_rate_hz, n_fft=settings.mel_window_samples, n_mels=settings.num_mels
  )
  chroma = librosa.filters.chroma(
    sr=settings.sample_rate_hz, n_fft=settings.chroma_window_samples, ctroct=5.0, octwidth=2.0
  )
  return mel.astype(np.float32), chroma.astype(np.float32)


def extract_features(
  waveform: np.ndarray, settings: LogMelSettings, mel_filters: np.ndarray, chroma_filters: np.ndarray
) -> np.ndarray:
  """Log-mel (natural logarithm of power) beside chroma (shares of 1, or 0 in silence).

  Args:
    waveform: float `[..., samples]`.

  Returns:
    float32 `[..., ceil(samples / hop), mels + 12]`.
  """
  short = magnitudes(waveform, settings.mel_window_samples, settings.hop_samples)
  long = magnitudes(waveform, settings.chroma_window_samples, settings.hop_samples)
  log_mel = np.log(np.square(short) @ mel_filters.T + settings.floor)
  chroma = long @ chroma_filters.T
  shares = chroma / (chroma.sum(axis=-1, keepdims=True) + np.sqrt(settings.floor))
  return np.concatenate([log_mel, shares], axis=-1)


def magnitudes(waveform: np.ndarray, window_samples: int, hop_samples: int) -> np.ndarray:
  """Hann-windowed spectra, window i centred on samples `[i·hop, (i+1)·hop)`; a full-scale sine peaks at 1/2.

  Args:
    waveform: float `[..., samples]`.

  Returns:
    float32 `[..., ceil(samples / hop), window/2 + 1]`.
  """
  waveform = np.asarray(waveform, np.float32)
  frames = math.ceil(waveform.shape[-1] / hop_samples)
  margin = (window_samples - hop_samples) // 2
  padded = np.pad(waveform, [(0, 0)] * (waveform.ndim - 1) + [(margin, window_samples)])
  windows = np.lib.stride_tricks.sliding_window_view(padded, window_samples, axis=-1)
  window = scipy.signal.get_window("hann", window_samples).astype(np.float32)
  return np.abs(scipy.fft.rfft(windows[..., ::hop_samples, :][..., :frames, :] * (window / window.sum())))
