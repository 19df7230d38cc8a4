"""The same curves and sounds in Weights & Biases, for who likes them there; chosen as `train.tracker`."""

import pathlib
import uuid
from typing import Any

import gin
import numpy as np

from singsong_jax import files
from singsong_jax.errors import InputError

ID_FILE = "wandb.json"
MODES = ("online", "offline", "disabled")


@gin.configurable
class WeightsAndBiases:
  """One run of Weights & Biases for one model directory, continued when the training is.

  Values are logged against the training step, so that steps done again after a kill replace what was there.

  Args:
    project: it appears in.
    entity: user or team; the account's own by default.
    name: the model directory's by default.
    mode: 'online', 'offline' (`wandb sync` uploads later) or 'disabled'; $WANDB_MODE decides where None.

  Raises:
    InputError: another mode; the package is not installed, or cannot start a run.
  """

  def __init__(
    self,
    project: str = "singsong",
    entity: str | None = None,
    name: str | None = None,
    mode: str | None = None,
  ):
    if mode is not None and mode not in MODES:
      raise InputError(f"WeightsAndBiases.mode={mode!r}: choose one of {', '.join(MODES)}")
    try:
      import wandb
    except ImportError as error:
      raise InputError(
        "WeightsAndBiases needs the extra `wandb`: pip install 'singsong_jax[wandb]'"
      ) from error
    self._wandb = wandb
    self._settings = {"project": project, "entity": entity, "name": name, "mode": mode}
    self._run = None

  def start(self, model_dir: pathlib.Path, config: dict[str, Any]) -> None:
    """Starts the run, or continues the one whose id is in `<model_dir>/wandb.json`."""
    path = model_dir / ID_FILE
    if not path.exists():
      files.write_json(path, {"id": uuid.uuid4().hex})
    settings = self._settings | {"name": self._settings["name"] or model_dir.name}
    try:
      self._run = self._wandb.init(
        **settings, id=files.read_json(path)["id"], resume="allow", dir=str(model_dir), config=config
      )
    except (self._wandb.Error, OSError) as error:
      raise InputError(
        f"Weights & Biases cannot start: {error}; WeightsAndBiases.mode='offline' needs no network"
      ) from error
    self._run.define_metric("step")
    for split in ("train", "eval"):
      self._run.define_metric(f"{split}/*", step_metric="step")

  def log(self, split: str, step: int, values: dict[str, float]) -> None:
    self._log(split, step, values)

  def log_audios(self, split: str, step: int, audios: dict[str, np.ndarray], sample_rate: int) -> None:
    """Audio `[B, samples, channels]` within ±1."""
    sounds = {
      name: [self._wandb.Audio(one, sample_rate=sample_rate) for one in batch]
      for name, batch in audios.items()
    }
    self._log(split, step, sounds)

  def _log(self, split: str, step: int, values: dict[str, Any]) -> None:
    self._run.log({"step": step, **{f"{split}/{name}": value for name, value in values.items()}})

  def close(self) -> None:
    if self._run is not None:
      self._run.finish()
