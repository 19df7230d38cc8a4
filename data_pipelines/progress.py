"""A progress bar that workers move: by calling `tick` in this process, by what they leave on disk
elsewhere.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import tqdm

_bar: tqdm.tqdm | None = None
_lock = threading.Lock()
_LEAST_WAIT_SECONDS, _WAIT_SHARE = 2.0, 20  # looking takes at most a twentieth of the time


@contextlib.contextmanager
def bar(total: int, description: str, unit: str, done: Callable[[], int] | None = None) -> Iterator[None]:
  """Shows a bar with time left while the block runs.

  Args:
    done: how much is done by now, for work whose `tick` cannot be heard.
  """
  global _bar
  stopped = threading.Event()
  with tqdm.tqdm(total=total, desc=description, unit=unit, smoothing=0.1) as shown:
    if done is None:
      _bar = shown
    else:
      threading.Thread(target=_watch, args=(shown, done, stopped), daemon=True).start()
    try:
      yield
    finally:
      _bar = None
      stopped.set()
      if done is not None:
        _show(shown, done())


def tick() -> None:
  """One unit done. Does nothing where no bar is shown."""
  with _lock:
    if _bar is not None:
      _bar.update()


def _watch(shown: tqdm.tqdm, done: Callable[[], int], stopped: threading.Event) -> None:
  wait = _LEAST_WAIT_SECONDS
  while not stopped.wait(wait):
    started = time.monotonic()
    _show(shown, done())
    wait = max(_LEAST_WAIT_SECONDS, _WAIT_SHARE * (time.monotonic() - started))


def _show(shown: tqdm.tqdm, count: int) -> None:
  shown.update(count - shown.n)
