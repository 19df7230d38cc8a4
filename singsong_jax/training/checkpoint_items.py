"""What a checkpoint is made of: arrays, and the positions of the readers of every process."""

import dataclasses
import pathlib
import tempfile
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from singsong_jax.errors import InputError
from singsong_jax.training.data import DataIterator

Files = dict[str, bytes]  # name → content


def position_of(data: DataIterator) -> Files:
  """The position as it is now; reading on does not change it."""
  with tempfile.TemporaryDirectory() as folder:
    data.save(pathlib.Path(folder))
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def restore_arrays(folder: pathlib.Path, abstract: Any) -> Any:
  """The arrays in `folder` as a tree like `abstract`: shapes, types and shardings.

  Raises:
    InputError: an array has another name or shape. What is corrupt raises much else.
  """
  handler, path = ocp.StandardCheckpointHandler(), epath.Path(folder)
  metadata = handler.metadata(path)
  saved, wanted = _shapes(getattr(metadata, "tree", metadata)), _shapes(abstract)
  for name in sorted(saved.keys() | wanted.keys()):
    if saved.get(name) != wanted.get(name):
      raise InputError(f"{folder}: {name} has shape {saved.get(name)}, the model wants {wanted.get(name)}")
  return handler.restore(path, args=ocp.args.StandardRestore(abstract))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


class _Watched(ocp.future.Future):
  def __init__(self, future: ocp.future.Future, errors: list[Exception]):
    self._future = future
    self._errors = errors

  def result(self, timeout: float | None = None):
    try:
      return self._future.result(timeout)
    except Exception as error:
      self._errors.append(error)
      raise


def watched(handler: ocp.AsyncCheckpointHandler, errors: list[Exception]) -> ocp.AsyncCheckpointHandler:
  """`handler`, which tells `errors` what goes wrong in its thread: Orbax waits for all processes first."""
  save = handler.async_save

  async def async_save(*args, **kwargs) -> list[ocp.future.Future]:
    return [_Watched(future, errors) for future in await save(*args, **kwargs) or ()]

  handler.async_save = async_save  # a subclass would need arguments of its own: Orbax looks them up by type
  return handler


class PositionsHandler(ocp.AsyncCheckpointHandler):
  """Writes the files of every process into one folder. They are read with `DataIterator.restore`."""

  async def async_save(self, directory: epath.Path, args: "SavePositions") -> list[ocp.future.Future]:
    async def write() -> None:
      for name, content in args.files.items():
        # Processes with the same part write the same file: it must not be seen half written.
        partial = directory / f".{name}.{ocp.multihost.process_index()}"
        partial.write_bytes(content)
        partial.replace(directory / name)

    return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="positions")]

  def save(self, directory: epath.Path, args: "SavePositions") -> None:
    raise NotImplementedError("checkpoints are written asynchronously")

  def restore(self, directory: epath.Path, args: ocp.args.CheckpointArgs | None = None) -> None:
    raise NotImplementedError("DataIterator.restore reads the folder")


@ocp.args.register_with_handler(PositionsHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class SavePositions(ocp.args.CheckpointArgs):
  """What one process adds to the checkpoint."""

  files: Files
