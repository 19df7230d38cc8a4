"""What the trainer asks of the data it is given; gin says who makes it."""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

Batch = dict[str, np.ndarray]  # name → [B, …]; the same names, shapes and B in every training batch


class DataIterator(Protocol):
  """Endless training batches, whose position can be saved and restored exactly."""

  def __next__(self) -> Batch: ...

  def state(self) -> bytes:
    """The position after the last batch taken."""

  def restore(self, state: bytes) -> None:
    """Continues with the batch that followed when `state` was taken."""


TrainDataset = Callable[[], DataIterator]
EvalDataset = Callable[[], Iterable[Batch]]  # finite; rows may be fewer in the last batch
