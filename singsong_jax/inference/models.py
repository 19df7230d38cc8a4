"""The trained models of an accompanist: SingSong's, and the fine stage's where there is one."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any

import jax
import numpy as np

import singsong_jax
from singsong_jax import files
from singsong_jax.codecs.base import Codec
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference.tokenizers import FOLDER, Tokenizers, load_tokenizers
from singsong_jax.systems import system_from_description
from singsong_jax.systems.fine import Fine
from singsong_jax.systems.singsong import SingSong
from singsong_jax.training.checkpoints import load_checkpoint
from singsong_jax.training.descriptions import MODEL_FILE
from singsong_jax.training.exported import is_exported, load_exported

FINE_FOLDER = "fine"  # in a model directory: that of its fine stage
SAMPLING_FILE = "sampling.json"  # in an exported one: fields of `SamplingOptions`
# Comes with the package: tiny, and of the demo's songs; its card stands beside it.
DEFAULT_MODEL = pathlib.Path(singsong_jax.__file__).parent / "pretrained" / "singsong"


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
  """A trained system: parameters without axis names, from the checkpoint of `step`."""

  system: Any
  params: Any
  step: int

  @functools.cached_property
  def sha256(self) -> str:
    """Of names, types and values of all parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
      array = np.ascontiguousarray(leaf)
      digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
      digest.update(array.tobytes())
    return digest.hexdigest()

  def describe(self) -> dict[str, Any]:
    """JSON: what was learned, and what it means."""
    return {"step": self.step, "parameters_sha256": self.sha256, "system": self.system.describe()}


@dataclasses.dataclass(frozen=True, eq=False)
class Models:
  """What one accompanist plays with.

  Attributes:
    coarse: of `SingSong`.
    fine: of `Fine`; None leaves the coarse codes as they are.
    folder: where the coarse model came from.
    options: what it is best played with.

  Raises:
    InputError: they do not fit together.
  """

  coarse: Model
  fine: Model | None
  tokenizers: Tokenizers
  folder: pathlib.Path
  options: SamplingOptions = SamplingOptions()

  def __post_init__(self):
    self.tokenizers.check(self.coarse.system.target_layout)
    self.tokenizers.heard_through(self.coarse.system.target_layout.streams)
    if self.fine:
      system = self.coarse.system
      if "a" not in system.target_layout.streams:
        raise InputError("a fine stage refines coarse codes, and this model makes none; skip it")
      self.fine.system.layout.check_fits(system.vocabulary, system.geometry)

  @property
  def codec(self) -> Codec:
    """What is heard comes out of it."""
    return self.tokenizers.heard_through(self.coarse.system.target_layout.streams)

  def describe(self) -> dict[str, Any]:
    """JSON."""
    return {
      "model": self.coarse.describe(),
      "fine_model": self.fine.describe() if self.fine else None,
      "codec": self.tokenizers.codec.fingerprint(),
      "semantics": self.tokenizers.semantics.fingerprint(),
    }


def load_models(
  model_dir: str | os.PathLike = DEFAULT_MODEL,
  step: int | None = None,
  *,
  fine_model_dir: str | os.PathLike | None = None,
  skip_fine: bool = False,
) -> Models:
  """Loads what training runs wrote, or `export_model`.

  Args:
    model_dir: of SingSong's training, or an exported model.
    step: its checkpoint; None takes the newest.
    fine_model_dir: of the fine stage's training, whose newest checkpoint is used. None takes
      `model_dir/fine` if there is one.
    skip_fine: load no fine stage.

  Raises:
    InputError: no such directory, checkpoint or tokeniser, a model of the other stage, or parts that do not
      fit together.
  """
  folder = pathlib.Path(model_dir)
  coarse = _load(folder, step, SingSong, "--fine_model_dir takes one of the fine stage")
  tokenizers = load_tokenizers(folder / FOLDER)
  options = _read_options(folder / SAMPLING_FILE)
  fine_folder = pathlib.Path(fine_model_dir or folder / FINE_FOLDER)
  if skip_fine or not (fine_model_dir or (fine_folder / MODEL_FILE).exists()):
    return Models(coarse, None, tokenizers, folder, options)
  fine = _load(fine_folder, None, Fine, "--model_dir takes one of SingSong")
  prints = [t.codec.fingerprint() for t in (tokenizers, load_tokenizers(fine_folder / FOLDER))]
  if prints[0] != prints[1]:
    raise InputError(
      f"{fine_folder} was trained with another codec ({prints[1][:12]}) than {folder} ({prints[0][:12]}); "
      "give a fine stage trained on the same data, or skip it"
    )
  return Models(coarse, fine, tokenizers, folder, options)


def _read_options(path: pathlib.Path) -> SamplingOptions:
  if not path.exists():
    return SamplingOptions()
  try:
    return SamplingOptions(**files.read_json(path))
  except TypeError as error:
    raise InputError(f"{path}: {error}") from error


def _load(folder: pathlib.Path, step: int | None, kind: type, advice: str) -> Model:
  if is_exported(folder):
    if step is not None:
      raise InputError(f"{folder} is an exported model: it has one state, and no step {step} to choose")
    system, params, step = load_exported(folder, system_from_description)
  else:
    system, params, step = load_checkpoint(folder, step, system_from_description)
  if not isinstance(system, kind):
    raise InputError(
      f"{folder} holds a model of the stage {system.name!r}, not {kind.__name__.lower()!r}; {advice}"
    )
  return Model(system, params, step)
