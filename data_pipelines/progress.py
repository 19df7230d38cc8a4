"""A progress bar that a local runner's workers can move; on remote workers there is none to move."""

import contextlib
import threading
from collections.abc import Iterator

import tqdm

_bar: tqdm.tqdm | None = None
_lock = threading.Lock()


@contextlib.contextmanager
def bar(total: int, description: str, unit: str) -> Iterator[None]:
  """Shows a bar with time left while the block runs."""
  global _bar
  with tqdm.tqdm(total=total, desc=description, unit=unit, smoothing=0.1) as _bar:
    try:
      yield
    finally:
      _bar = None


def tick() -> None:
  """One unit done. Does nothing where no bar is shown."""
  with _lock:
    if _bar is not None:
      _bar.update()
