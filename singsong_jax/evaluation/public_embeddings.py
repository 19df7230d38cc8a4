"""MERT, EnCodec and CLAP as embeddings, with public weights, through `transformers`; windows as fadtk has
them.

    mert:m-a-p/MERT-v1-95M,layer=12          24 kHz, a block's output, 75 vectors a second
    encodec:facebook/encodec_24khz           24 kHz, what the encoder gives the quantizer, 75 vectors a second
    clap:laion/larger_clap_music             48 kHz, a vector for the 10 s from every second on, zeros past
    the end

FastSAG (Chen et al. 2024) reports MERT's blocks 4, 7 and 11 and CLAP.
"""

import os
from typing import Any, Self

import numpy as np

from singsong_jax.audio.public_weights import TORCH_WEIGHTS, PublicWeights, import_extra, locate
from singsong_jax.audio.torch_models import load_transformers, run
from singsong_jax.codecs.encodec import EncodecCodec
from singsong_jax.errors import InputError
from singsong_jax.semantics.hubert import MertFeatures

_CLAP_SECONDS, _CLAP_HOP_SECONDS = 10, 1


class Mert:
  """One block of MERT, not pooled. Where the last frame lacks samples it hears silence, so that 10 s have
  750.
  """

  def __init__(self, features: MertFeatures, layer: int):
    self._features = features
    self.sample_rate_hz = features.sample_rate_hz
    self.name = f"MERT, block {layer}"

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike, layer: int = 12) -> Self:
    """Raises InputError for files or packages that are missing, another model, or a block it does not
    have.
    """
    return cls(MertFeatures.from_pretrained(source, layer=layer, pool=1), layer)

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    return self._features.features(np.asarray(waveform, np.float32))

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "weights_sha256": self._features.weights.sha256}


class Encodec:
  """The continuous output of EnCodec's encoder."""

  name = "EnCodec"

  def __init__(self, codec: EncodecCodec):
    self._codec = codec
    self.sample_rate_hz = codec.sample_rate_hz

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike) -> Self:
    """Raises InputError as the codec `encodec`."""
    return cls(EncodecCodec.from_pretrained(source))

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    model = self._codec.model
    clip = np.asarray(waveform, np.float32)[None, None]
    return run(model, model.encoder, clip)[0].cpu().numpy().T  # [frames, d]

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "weights_sha256": self._codec.weights.sha256}


class Clap:
  """CLAP's audio tower, projected, over windows of 10 s that begin every second."""

  name = "CLAP"

  def __init__(self, weights: PublicWeights, model: Any, extractor: Any):
    self._weights, self._model, self._extractor = weights, model, extractor
    self.sample_rate_hz: int = extractor.sampling_rate

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike) -> Self:
    """Raises InputError for files or packages that are missing, or another model."""
    transformers = import_extra("transformers", "torch", "--embedding=clap")
    weights = locate(source, ["config.json", "preprocessor_config.json"], TORCH_WEIGHTS)
    weights.check_class(["clap"])
    try:
      extractor = transformers.ClapFeatureExtractor.from_pretrained(weights.folder, local_files_only=True)
    except (OSError, TypeError, ValueError) as error:
      raise InputError(f"{weights.folder / 'preprocessor_config.json'} is not CLAP's: {error}") from error
    return cls(weights, load_transformers(transformers.ClapModel, weights), extractor)

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    rate_hz = self.sample_rate_hz
    padded = np.pad(np.asarray(waveform, np.float32), (0, _CLAP_SECONDS * rate_hz))
    starts = range(0, len(waveform), _CLAP_HOP_SECONDS * rate_hz)
    windows = [padded[start : start + _CLAP_SECONDS * rate_hz] for start in starts]
    if not windows:
      return np.zeros((0, self._model.config.projection_dim), np.float32)
    heard = self._extractor(windows, sampling_rate=rate_hz, return_tensors="np")
    found = run(
      self._model,
      lambda features, is_longer: self._model.get_audio_features(
        input_features=features, is_longer=is_longer
      ),
      heard["input_features"],
      np.zeros_like(heard["is_longer"]),  # none is; of some checkpoints' windows one is said to be, at random
    )
    return getattr(found, "pooler_output", found).cpu().numpy()

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "weights_sha256": self._weights.sha256}
