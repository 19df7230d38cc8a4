"""Demucs (Défossez 2021, Rouard et al. 2023) through its package: the separator of FastSAG, a stronger one
than MDX-Net.

A source is a folder with what the authors publish: `htdemucs.yaml` and the `.safetensors` files it names, or
their older `.th` files. Those are pickles, which run code when they are read: take them from the authors
alone.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from singsong_jax.audio.public_weights import PublicWeights, import_extra
from singsong_jax.audio.separation.base import Clip, check_rates
from singsong_jax.audio.torch_models import ready, unfit
from singsong_jax.errors import InputError


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
    if not 0 <= overlap < 1:
      raise InputError(f"--separator=demucs: overlap is {overlap}; it must be at least 0 and below 1")
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
    import_extra("demucs", "demucs", "--separator=demucs")
    folder = pathlib.Path(source).expanduser()
    if not (folder / f"{model}.yaml").is_file():
      known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
      raise InputError(
        f"--separator=demucs:{source}: there is no {model}.yaml; models in this folder: {known} (model=NAME)"
      )
    found = sorted(
      path.name for suffix in ("yaml", "safetensors", "th") for path in folder.glob(f"*.{suffix}")
    )
    weights = PublicWeights(source=str(folder.absolute()), revision=None, folder=folder, names=tuple(found))
    try:
      made = _load(folder, model)
    except Exception as error:  # the package, torch, yaml and pickle have many of their own
      raise unfit(weights, "Demucs", error) from error
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

    torch = import_extra("torch", "demucs", "--separator=demucs")
    check_rates(clips, self._model.samplerate, "Demucs")
    mixes = np.stack([clip.mix for clip in clips])  # [clips, samples]
    # The level the network was trained at; what is divided out is multiplied in again.
    mean, scale = mixes.mean(axis=1, keepdims=True), mixes.std(axis=1, keepdims=True) + 1e-8
    stereo = np.repeat(((mixes - mean) / scale)[:, None], 2, axis=1).astype(np.float32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode():
      # shifts=0: they would be random.
      stems = apply_model(
        self._model, torch.from_numpy(stereo), shifts=0, overlap=self._overlap, device=device
      )
    vocals = stems[:, self._model.sources.index("vocals")].mean(dim=1).cpu().numpy()
    return (vocals * scale).astype(np.float32)


def _load(folder: pathlib.Path, name: str) -> Any:
  """The model, or the mean of several, of a `.yaml` file."""
  from demucs.apply import BagOfModels
  from demucs.hf import load_safetensors_model
  from demucs.pretrained import get_model

  yaml = import_extra("yaml", "demucs", "--separator=demucs")
  bag = yaml.safe_load((folder / f"{name}.yaml").read_text())
  paths = [folder / f"{signature}.safetensors" for signature in bag["models"]]
  if not all(path.is_file() for path in paths):
    return get_model(name, repo=folder)  # .th
  return BagOfModels([load_safetensors_model(path) for path in paths], bag.get("weights"), bag.get("segment"))
