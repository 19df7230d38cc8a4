"""What the trainer asks of the data it is given; gin says who makes it."""

import pathlib
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

Batch = dict[str, np.ndarray]  # name → [B, …]; the same names, shapes and B in every training batch
IDS = "ids"  # [B] bytes: which example a row is. Never sent to the devices; named where a step fails


class DataIterator(Protocol):
  """One part of endless training batches, whose position can be saved and restored exactly.

  A batch is made of the blocks of one reader or more, each of which reads its own share of the data.
  """

  def __next__(self) -> Batch:
    """This part's rows of the next batch, with or without `IDS`."""

  def save(self, folder: pathlib.Path) -> None:
    """Writes the position after the last batch taken: one file for each reader of this part."""

  def restore(self, folder: pathlib.Path) -> None:
    """Continues after the last batch taken when `folder` was saved, by this part or by several.

    Raises:
      InputError: it was saved with other data or settings, or its readers cannot be dealt to the parts.
    """


# (index, count) → the index-th of `count` equal parts: contiguous rows of every batch. Parts of equal
# index are equal, in whatever process.
TrainDataset = Callable[[int, int], DataIterator]
EvalDataset = Callable[[], Iterable[Batch]]  # finite; rows may be fewer in the last batch
