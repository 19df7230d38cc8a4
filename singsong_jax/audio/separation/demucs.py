"""Demucs (Défossez 2021, Rouard et al. 2023) through its package: the separator of FastSAG, a stronger one
than MDX-Net.

A source is a folder with what the authors publish: `htdemucs.yaml` and the `.safetensors` files it names, or
their older `.th` files. Those are pickles, which run code when they are read: take them from the authors
alone.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from singsong_jax.audio.public_weights import PublicWeights, import_extra
from singsong_jax.audio.separation.base import Clip, check_rates
from singsong_jax.audio.torch_models import ready, unfit
from singsong_jax.errors import InputError

_FLAG = "--separator=demucs"
_CLASSES = ("demucs.demucs.Demucs", "demucs.hdemucs.HDemucs", "demucs.htdemucs.HTDemucs")


class DemucsSeparator:
  """Vocals by Demucs."""

  name = "demucs"
  batch_clips = 4

  def __init__(self, model: Any, weights: PublicWeights, *, model_name: str, overlap: float = 0.25):
    """`from_pretrained` makes it.

    Args:
      model_name: which of the folder's models it is.
      overlap: share that neighbouring segments have in common, as in the package.

    Raises:
      InputError: the overlap is out of range.
    """
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
      raise InputError(f"{_FLAG}: overlap is {overlap}; it must be at least 0 and below 1")
    self._model, self._weights = model, weights
    self._model_name, self._overlap = model_name, overlap

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike, *, model: str = "htdemucs", **settings: Any) -> Self:
    """Reads a folder.

    Args:
      model: the name of a `.yaml` file, which may name several models whose mean is taken.

    Raises:
      InputError: no such folder or model, damaged weights, a model without vocals, or no such package.
    """
    import_extra("demucs", "demucs", _FLAG)
    folder = pathlib.Path(source).expanduser()
    if not (folder / f"{model}.yaml").is_file():
      known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
      raise InputError(
        f"{_FLAG}:{source}: there is no {model}.yaml; models in this folder: {known} (model=NAME)"
      )
    made, weights = _load(folder, f"{model}.yaml")
    if "vocals" not in made.sources:
      raise InputError(f"{folder}: {model} finds {', '.join(made.sources)}, no vocals")
    return cls(ready(made), weights, model_name=model, **settings)

  def describe(self) -> dict[str, Any]:
    return {
      "name": self.name,
      "model": self._model_name,
      "sha256": self._weights.sha256,
      "overlap": self._overlap,
    }

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """Raises InputError for clips of another rate than the model's."""
    from demucs.apply import apply_model

    torch = import_extra("torch", "demucs", _FLAG)
    check_rates(clips, self._model.samplerate, "this Demucs")
    mixes = np.stack([clip.mix for clip in clips])  # [clips, samples]
    # The level the network was trained at, as in `demucs.api`; it is undone below.
    mean, scale = mixes.mean(axis=1, keepdims=True), mixes.std(axis=1, keepdims=True) + 1e-8
    level = ((mixes - mean) / scale).astype(np.float32)
    channels = np.repeat(level[:, None], self._model.audio_channels, axis=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode():
      # shifts=0: they would be random.
      stems = apply_model(
        self._model, torch.from_numpy(channels), shifts=0, overlap=self._overlap, device=device
      )
    vocals = stems[:, self._model.sources.index("vocals")].mean(dim=1).cpu().numpy()
    return (vocals * scale + mean).astype(np.float32)


def _load(folder: pathlib.Path, config: str) -> tuple[Any, PublicWeights]:
  """The models of a `.yaml` file, and the files they are in."""
  from demucs.apply import BagOfModels

  yaml = import_extra("yaml", "demucs", _FLAG)
  try:
    bag = yaml.safe_load((folder / config).read_text(encoding="utf-8"))
    signatures = list(bag["models"])
  except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
    raise InputError(f"{folder / config} does not list the models of a Demucs: {error}") from error
  paths = [_find(folder, signature, config) for signature in signatures]
  names = (config, *dict.fromkeys(path.name for path in paths))  # a bag may name a model twice
  weights = PublicWeights(source=str(folder.absolute()), revision=None, folder=folder, names=names)
  models = [_load_one(path, signature, weights) for path, signature in zip(paths, signatures, strict=True)]
  try:
    return BagOfModels(models, bag.get("weights"), bag.get("segment")), weights
  except Exception as error:  # assertions without a text
    raise InputError(f"{folder / config} joins models that do not fit each other") from error


def _find(folder: pathlib.Path, signature: str, config: str) -> pathlib.Path:
  """The file of a model: `SIGNATURE.safetensors`, or as they once were, `SIGNATURE-CHECKSUM.th`."""
  for pattern in (f"{signature}.safetensors", f"{signature}.th", f"{signature}-*.th"):
    for path in sorted(folder.glob(pattern)):
      return path
  raise InputError(f"{folder} lacks {signature}.safetensors, which {config} names")


def _load_one(path: pathlib.Path, signature: str, weights: PublicWeights) -> Any:
  """Raises InputError for a file that holds no model."""
  from demucs.hf import load_safetensors_model
  from demucs.repo import LocalRepo

  try:
    if path.suffix == ".th":
      return LocalRepo(path.parent).get_model(signature)  # which compares the checksum
    _check_class(path)
    return load_safetensors_model(path)
  except SystemExit as error:  # the package's way to say so
    raise InputError(f"{path} is quantised: it needs the package diffq, or take another model") from error
  except Exception as error:  # torch, safetensors and pickle have many of their own
    raise unfit(dataclasses.replace(weights, names=(path.name,)), "Demucs", error) from error


def _check_class(path: pathlib.Path) -> None:
  """Raises ValueError where a file names no model: the package would call whatever it names."""
  with import_extra("safetensors", "demucs", _FLAG).safe_open(path, framework="pt") as file:
    found = (file.metadata() or {}).get("klass")
  if found not in _CLASSES:
    raise ValueError(f"its klass is {found}; expected one of {', '.join(_CLASSES)}")
