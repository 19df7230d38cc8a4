"""A run that begins with the parameters of another one."""

import os
import pathlib
from collections.abc import Sequence

import gin
import jax

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.training import checkpoints, descriptions, exported
from singsong_jax.training.state import TrainState

# Neither the shapes of parameters nor the meaning of ids depends on these.
MAY_DIFFER = ("vocals", "z_loss", "hidden", "lockstep", "network.dropout_rate")


@gin.configurable
class InitialCheckpoint:
  """Parameters for the first step of a new run; optimizer, step and data begin anew. `train.initial` in gin.

  Args:
    model_dir: of the run whose parameters are taken, or an exported model. Any mesh and number of processes
      will do.
    step: which checkpoint; None takes the newest.
    may_differ: settings of the system that need not be the same, as the names in `model.json` with dots.
  """

  def __init__(
    self, model_dir: str | os.PathLike, step: int | None = None, may_differ: Sequence[str] = MAY_DIFFER
  ):
    self._model_dir = files.local_folder(model_dir)
    self._step = step
    self._may_differ = frozenset(may_differ)

  def check(self, system: System) -> str:
    """Finds the checkpoint; what it is, for people.

    Raises:
      InputError: no such folder or checkpoint, or one of a model that differs in more than `may_differ`.
    """
    step = None if self._is_exported else checkpoints.find_step(self._model_dir, self._step)
    saved = files.read_json(self._model_dir / descriptions.MODEL_FILE)
    differing = descriptions.differences(saved, system.describe(), ignored=self._may_differ)
    if differing:
      raise InputError(
        f"{self._model_dir} cannot be fine-tuned to this model: {'; '.join(differing)}. Sizes, vocabulary "
        f"and features must be the checkpoint's; {', '.join(sorted(self._may_differ))} may differ"
      )
    return f"the parameters of {self._model_dir}" + (f", step {step}" if step is not None else "")

  @property
  def _is_exported(self) -> bool:
    return self._step is None and exported.is_exported(self._model_dir)

  def __call__(self, state: TrainState) -> TrainState:
    """`state` with the checkpoint's parameters, each where the state's lies; those of `state` are used up.

    Raises:
      InputError: the checkpoint cannot be read.
    """
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state.params
    )
    for array in jax.tree.leaves(state.params):
      array.delete()  # before the others come: one copy of the parameters must be enough
    if self._is_exported:
      return state.replace(params=exported.read_parameters(self._model_dir, abstract)[0])
    step = checkpoints.find_step(self._model_dir, self._step)
    folder = pathlib.Path(self._model_dir) / checkpoints.FOLDER / str(step)
    return state.replace(params=checkpoints.restore_params(folder, abstract))
