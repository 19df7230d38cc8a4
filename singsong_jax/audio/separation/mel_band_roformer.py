"""Mel-Band RoFormer (Lu et al. 2023), with the vocals' weights by K. Jensen or others in the same format.

A source is a folder with one `.ckpt` (or `.safetensors`) and one `.yaml`, as they are published. The network
comes from the package melband-roformer-infer; chunks, levels and files are looked after here.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from singsong_jax.audio.public_weights import PublicWeights, import_extra
from singsong_jax.audio.separation.base import Clip, check_rates
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
      if not 1 <= value <= chunk_samples:
        raise InputError(f"{_FLAG}: {name} is {value}; it must be from 1 to {chunk_samples}")
    self._network, self._weights, self._stem = network, weights, stem
    self._sample_rate_hz, self._chunk_samples = sample_rate_hz, chunk_samples
    self._overlaps, self._batch_chunks = overlaps, batch_chunks
    self.batch_clips = batch_chunks

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike, **settings: Any) -> Self:
    """Reads a folder.

    Raises:
      InputError: it lacks a file, the weights do not fit the configuration, the network does not find
      vocals, or no
        such package.
    """
    package = import_extra("mel_band_roformer", "roformer", _FLAG)
    folder = pathlib.Path(source).expanduser()
    config_path, weights_path = (
      _only(folder, *suffixes) for suffixes in ((".yaml",), (".ckpt", ".safetensors"))
    )
    names = (config_path.name, weights_path.name)
    weights = PublicWeights(source=str(folder.absolute()), revision=None, folder=folder, names=names)
    try:
      config = _read_config(config_path)
      network = package.get_model_from_config("mel_band_roformer", _Attributes(config))
      network.load_state_dict(_read_weights(weights_path))
      chunk_samples = {**config.get("audio", {}), **config["inference"]}["chunk_size"]
      rate_hz = config["model"].get("sample_rate", 44_100)
    except Exception as error:  # yaml, torch, pickle, beartype and the package have many of their own
      raise unfit(weights, "Mel-Band RoFormer", error) from error
    fixed = {"sample_rate_hz": rate_hz, "chunk_samples": chunk_samples, "stem": _stem(config_path, config)}
    default = {"overlaps": config["inference"].get("num_overlap", 2)}
    return cls(ready(network), weights, **{**default, **settings}, **fixed)

  def describe(self) -> dict[str, Any]:
    return {"name": self.name, "sha256": self._weights.sha256, "overlaps": self._overlaps}

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """Raises InputError for clips of another rate than the network's."""
    check_rates(clips, self._sample_rate_hz, "this Mel-Band RoFormer")
    return np.stack([self._separate(clip.mix) for clip in clips])

  def _separate(self, mix: np.ndarray) -> np.ndarray:
    """float32 `[samples]` → float32 `[samples]`: chunks that overlap, faded into each other."""
    size = self._chunk_samples
    step = -(-size // self._overlaps)
    starts = range(step - size, len(mix), step)  # so that every sample is in as many chunks
    padded = np.pad(mix, (size - step, size))
    chunks = [padded[start + size - step :][:size] for start in starts]
    batches = [chunks[i : i + self._batch_chunks] for i in range(0, len(chunks), self._batch_chunks)]
    vocals = np.concatenate([self._run(np.stack(batch)) for batch in batches])  # [chunks, size]
    # Half a sample off, so that no weight is 0.
    fade = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 if self._overlaps > 1 else np.ones(size)
    total, weight = np.zeros(len(padded)), np.zeros(len(padded))
    for start, part in zip(starts, vocals):
      place = slice(start + size - step, start + size - step + size)
      total[place] += fade * part
      weight[place] += fade
    inner = slice(size - step, size - step + len(mix))
    return (total[inner] / weight[inner]).astype(np.float32)

  def _run(self, chunks: np.ndarray) -> np.ndarray:
    """float32 `[n, size]` → float32 `[n, size]`: mono → stereo → mono."""
    stereo = np.repeat(chunks[:, None], 2, axis=1)
    output = run(self._network, self._network, stereo).cpu().numpy()  # [n, (stems,) 2, size]
    if self._stem is not None:
      output = output[:, self._stem]
    return output.mean(axis=1)


class _Attributes:
  """A dict as the package wants it: `config.model`."""

  def __init__(self, config: dict[str, Any]):
    # A chunk comes out as long as it went in, whatever the hop.
    self.model = {**config["model"], "match_input_audio_length": True}


def _only(folder: pathlib.Path, *suffixes: str) -> pathlib.Path:
  found = [path for path in folder.glob("*") if path.suffix in suffixes] if folder.is_dir() else []
  if len(found) != 1:
    raise InputError(
      f"{_FLAG}:{folder} has {len(found)} files *{' or *'.join(suffixes)}; expected a folder with one"
    )
  return found[0]


def _read_config(path: pathlib.Path) -> dict[str, Any]:
  yaml = import_extra("yaml", "roformer", _FLAG)

  class Loader(yaml.SafeLoader):
    """Plain YAML and the tuples that some of these files hold."""

  Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
  )
  return yaml.load(path.read_text(encoding="utf-8"), Loader)


def _read_weights(path: pathlib.Path) -> dict[str, Any]:
  if path.suffix == ".safetensors":
    return import_extra("safetensors.torch", "roformer", _FLAG).load_file(path)
  stored = import_extra("torch", "roformer", _FLAG).load(path, map_location="cpu", weights_only=True)
  return next((stored[name] for name in _WRAPPERS if isinstance(stored.get(name), dict)), stored)


def _stem(path: pathlib.Path, config: dict[str, Any]) -> int | None:
  """Which output is the vocals. Raises InputError where none is."""
  training = config.get("training", {})
  target, instruments = training.get("target_instrument"), list(training.get("instruments", []))
  found = [target] if target else instruments
  if "vocals" not in [name.lower() for name in found]:
    raise InputError(f"{path} is of a network that finds {', '.join(found) or 'nothing it names'}, no vocals")
  several = config["model"].get("num_stems", 1) > 1
  return [name.lower() for name in found].index("vocals") if several else None
