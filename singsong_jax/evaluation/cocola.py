"""COCOLA (Ciranni et al. 2024): how coherent two stems are, by a network trained on stems of one song.

A score has no unit and no fixed range: compare systems by one checkpoint. Stems are heard in windows of 5 s,
as harmonic and percussive mel spectrograms; the network is EfficientNet-B0, and two embeddings are compared
by a bilinear form. The public checkpoint is `COCOLA_HP_v1`, of github.com/gladia-research-group/cocola.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import librosa
import numpy as np

from singsong_jax import storage
from singsong_jax.audio.public_weights import import_extra
from singsong_jax.audio.torch_models import ready, run
from singsong_jax.errors import InputError
from singsong_jax.evaluation.musical import RATE_HZ, Truth

WINDOW_SAMPLES = 5 * RATE_HZ
NUM_BANDS = 64
_FFT, _WINDOW, _HOP = 1024, 400, 160
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7_800.0
_NETWORK = "encoder.encoder.model.0."  # EfficientNet's, in the checkpoint
_HEAD = ("encoder.projection.weight", "encoder.projection.bias", "layer_norm.weight", "layer_norm.bias")
_SIMILARITY = "similarity.w"
_FLAG, _EXTRA = "--cocola", "judges"
# The checkpoint names settings by enumerations of its own code; what they say is not needed.
_ENUMERATIONS = (
  "EmbeddingMode",
  "ModelInputType",
  "ModelFeatureExtractorType",
  "FeatureExtractionTime",
  "Dataset",
)


class Cocola:
  """The score of an accompaniment with the vocals it is for.

  Args:
    checkpoint: a file that Lightning wrote.

  Raises:
    InputError: no such file, packages are missing, or it is no COCOLA of two channels.
  """

  name = "cocola"

  def __init__(self, checkpoint: str | os.PathLike):
    self._path = pathlib.Path(checkpoint)
    torch = import_extra("torch", _EXTRA, _FLAG)
    efficientnet = import_extra("efficientnet_pytorch", _EXTRA, _FLAG)
    weights = _read(self._path, torch)
    network = efficientnet.EfficientNet.from_name("efficientnet-b0", include_top=False, in_channels=2)
    try:
      network.load_state_dict(
        {name.removeprefix(_NETWORK): x for name, x in weights.items() if name.startswith(_NETWORK)}
      )
      head = [weights[name] for name in (*_HEAD, _SIMILARITY)]
    except (KeyError, RuntimeError) as error:
      reason = " ".join(str(error).split())[:300]
      raise InputError(f"{self._path} is no COCOLA that hears two channels: {reason}") from error
    self._network = ready(network)
    self._head = [x.to(next(network.parameters()).device) for x in head]

  def __call__(self, instrumental: np.ndarray, vocals: np.ndarray, truth: Truth) -> float:
    """Mean score of the whole windows; both float `[samples]` at `RATE_HZ`. NaN where there is none."""
    windows = min(len(instrumental), len(vocals)) // WINDOW_SAMPLES
    if not windows:
      return np.nan
    stems = [stem[: windows * WINDOW_SAMPLES].reshape(windows, -1) for stem in (vocals, instrumental)]
    return float(self.scores(*(np.stack([*map(spectrograms, stem)]) for stem in stems)).mean())

  def scores(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of pairs of windows: `spectrograms`, float32 `[n, 2, 64, frames]` each, to float32 `[n]`."""
    return run(self._network, self._compare, one, other).cpu().numpy()

  def _compare(self, one: Any, other: Any) -> Any:
    x, y = self._embed(one), self._embed(other)
    return (x * (y @ self._head[-1].T)).sum(-1)

  def _embed(self, windows: Any) -> Any:
    functional = import_extra("torch.nn.functional", _EXTRA, _FLAG)
    weight, bias, scale, offset, _ = self._head
    projected = functional.linear(self._network(windows).flatten(1), weight, bias)
    return functional.layer_norm(projected, scale.shape, scale, offset).tanh()

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "sha256": storage.sha256(self._path)}


def spectrograms(window: np.ndarray) -> np.ndarray:
  """Of one window, float `[samples]`: decibels below the loudest, float32 `[2, 64, frames]`."""
  transform = librosa.stft(np.asarray(window, np.float32), n_fft=_FFT, win_length=_WINDOW, hop_length=_HOP)
  bands = [
    librosa.feature.melspectrogram(
      S=np.abs(part) ** 2, sr=RATE_HZ, fmin=_LOWEST_HZ, fmax=_HIGHEST_HZ, n_mels=NUM_BANDS
    )
    for part in librosa.decompose.hpss(transform)
  ]
  return np.stack([librosa.power_to_db(band, ref=np.max) for band in bands]).astype(np.float32)


def _read(path: pathlib.Path, torch: Any) -> Mapping[str, Any]:
  stand_ins = [(str, f"contrastive_model.constants.{name}") for name in _ENUMERATIONS]
  try:
    with torch.serialization.safe_globals(stand_ins):
      return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
  except Exception as error:  # pickle and zip files have many of their own
    reason = " ".join(str(error).split())[:300]
    raise InputError(f"{_FLAG}={path} is no checkpoint that can be read: {reason}") from error
