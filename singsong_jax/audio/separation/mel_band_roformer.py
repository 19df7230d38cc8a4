"""Mel-Band RoFormer (Lu et al. 2023), with the vocals' weights by K. Jensen or others in the same format.

A source is a folder with one `.ckpt` (or `.safetensors`) and one `.yaml`, as they are published. The network
comes from the package melband-roformer-infer; chunks, levels and files are looked after here.
"""

import dataclasses
import os
import pathlib
import types
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from singsong_jax.audio.public_weights import PublicWeights, import_extra
from singsong_jax.audio.separation.base import Clip, check_rates
from singsong_jax.audio.separation.chunks import Chunks
from singsong_jax.audio.torch_models import ready, run, unfit
from singsong_jax.errors import InputError

_FLAG = "--separator=mel_band_roformer"
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # in which trainers put the weights


class MelBandRoformerSeparator:
  """Vocals by Mel-Band RoFormer."""

  name = "mel_band_roformer"

  def __init__(
    self,
    network: Any,
    weights: PublicWeights,
    *,
    sample_rate_hz: int,
    chunk_samples: int,
    stem: int | None,
    overlaps: int = 2,
    batch_chunks: int = 1,
  ):
    """`from_pretrained` makes it.

    Args:
      stem: which of the network's outputs is the vocals; None where it has no other.
      overlaps: how many chunks hear each sample.
      batch_chunks: how many chunks go through the network at a time.

    Raises:
      InputError: settings out of range.
    """
    for name, value in (("overlaps", overlaps), ("batch_chunks", batch_chunks)):
      if not isinstance(value, int) or not 1 <= value <= chunk_samples:
        raise InputError(f"{_FLAG}: {name} is {value}; it must be an integer from 1 to {chunk_samples}")
    self._network, self._weights, self._stem = network, weights, stem
    self._sample_rate_hz, self._overlaps, self._batch_chunks = sample_rate_hz, overlaps, batch_chunks
    self._chunks = Chunks(kept_samples=chunk_samples, step_samples=-(-chunk_samples // overlaps))
    self.batch_clips = batch_chunks

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike, **settings: Any) -> Self:
    """Reads a folder.

    Raises:
      InputError: it lacks a file, the weights do not fit the configuration, the network does not find vocals,
        or no such package.
    """
    import_extra("mel_band_roformer", "roformer", _FLAG)
    folder = pathlib.Path(source).expanduser()
    config_path, weights_path = _only(folder, ".yaml"), _only(folder, ".ckpt", ".safetensors")
    names = (config_path.name, weights_path.name)
    weights = PublicWeights(source=str(folder.absolute()), revision=None, folder=folder, names=names)
    config = _Config.read(config_path)
    try:
      network = _build(config.model)
      network.load_state_dict(_read_weights(weights_path))
    except Exception as error:  # torch, pickle, beartype and the package have many of their own
      raise unfit(weights, "Mel-Band RoFormer", error) from error
    fixed = {"sample_rate_hz": config.sample_rate_hz, "chunk_samples": config.chunk_samples}
    default = {"overlaps": config.overlaps}
    return cls(ready(network), weights, **{**default, **settings}, **fixed, stem=config.stem)

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "sha256": self._weights.sha256, "overlaps": self._overlaps}

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """Raises InputError for clips of another rate than the network's."""
    check_rates(clips, self._sample_rate_hz, "this Mel-Band RoFormer")
    mixes = np.stack([clip.mix for clip in clips])  # [clips, samples]
    return self._chunks.separate(mixes, self._run, self._batch_chunks)

  def _run(self, chunks: np.ndarray) -> np.ndarray:
    """float32 `[n, size]` → float32 `[n, size]`: mono → the network's channels → mono."""
    channels = np.repeat(chunks[:, None], self._network.audio_channels, axis=1)
    output = run(self._network, self._network, channels).cpu().numpy()  # [n, (stems,) channels, size]
    if self._stem is not None:
      output = output[:, self._stem]
    return output.mean(axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
  """What a `.yaml` file says.

  Attributes:
    model: arguments of the network.
    stem: which of its outputs is the vocals; None where it has no other.
  """

  model: dict[str, Any]
  sample_rate_hz: int
  chunk_samples: int
  overlaps: int
  stem: int | None

  @classmethod
  def read(cls, path: pathlib.Path) -> Self:
    """Raises InputError where it is no configuration of a network that finds vocals."""
    yaml = import_extra("yaml", "roformer", _FLAG)
    try:
      config = yaml.load(path.read_text(encoding="utf-8"), _loader(yaml))
      model, inference, training = config["model"], config["inference"], config.get("training", {})
      return cls(
        model=model,
        sample_rate_hz=model.get("sample_rate", 44_100),
        chunk_samples=_chunk_samples(path, {**config.get("audio", {}), **inference}.get("chunk_size"), model),
        overlaps=inference.get("num_overlap", 2),
        stem=_stem(path, training, model.get("num_stems", 1)),
      )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
      reason = " ".join(str(error).split())
      raise InputError(f"{path} is no configuration of a Mel-Band RoFormer: {reason}") from error


def _build(model: dict[str, Any]) -> Any:
  """The network, without weights."""
  from mel_band_roformer import get_model_from_config
  from mel_band_roformer.attend import Attend

  torch = import_extra("torch", "roformer", _FLAG)
  # The package's choice of a kernel prints, and calls what PyTorch is about to remove: PyTorch chooses below.
  # A chunk comes out as long as it went in, whatever the hop.
  fixed = {"flash_attn": False, "match_input_audio_length": True}
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a spectrogram made for its shape, without a window
    network = get_model_from_config("mel_band_roformer", types.SimpleNamespace(model={**model, **fixed}))
  for module in network.modules():
    if isinstance(module, Attend):
      module.forward = torch.nn.functional.scaled_dot_product_attention
  return network


def _only(folder: pathlib.Path, *suffixes: str) -> pathlib.Path:
  found = [path for path in folder.glob("*") if path.suffix in suffixes] if folder.is_dir() else []
  if len(found) != 1:
    raise InputError(
      f"{_FLAG}:{folder} has {len(found)} files *{' or *'.join(suffixes)}; expected a folder with one"
    )
  return found[0]


def _loader(yaml: Any) -> Any:
  class Loader(yaml.SafeLoader):
    """Plain YAML and the tuples that some of these files hold."""

  Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
  )
  return Loader


def _read_weights(path: pathlib.Path) -> dict[str, Any]:
  if path.suffix == ".safetensors":
    return import_extra("safetensors.torch", "roformer", _FLAG).load_file(path)
  stored = import_extra("torch", "roformer", _FLAG).load(path, map_location="cpu", weights_only=True)
  return next((stored[name] for name in _WRAPPERS if isinstance(stored.get(name), dict)), stored)


def _chunk_samples(path: pathlib.Path, value: Any, model: dict[str, Any]) -> int:
  frame = model.get("stft_n_fft", 2048)
  if not isinstance(value, int) or value < frame:
    raise InputError(f"{path} has chunk_size {value}; expected an integer of at least {frame}, a frame")
  return value


def _stem(path: pathlib.Path, training: dict[str, Any], num_stems: int) -> int | None:
  """Which output is the vocals. Raises InputError where none is, or none can be told."""
  target = training.get("target_instrument")
  found = [target] if target else list(training.get("instruments", []))
  names = [name.lower() for name in found]
  if "vocals" not in names:
    raise InputError(f"{path} is of a network that finds {', '.join(found) or 'nothing it names'}, no vocals")
  if len(names) != num_stems:
    raise InputError(f"{path} names {', '.join(found)} for a network of num_stems = {num_stems}")
  return names.index("vocals") if num_stems > 1 else None
