"""SIGTERM and Ctrl-C as a request that the loop can finish on."""

import signal
import threading
from types import FrameType


class StopRequest:
  """Context in which SIGTERM and SIGINT set `number`; a second Ctrl-C interrupts at once.

  Attributes:
    number: of the signal; 0 while there was none.
  """

  def __init__(self):
    self.number = 0
    self._previous = {}

  def __enter__(self) -> "StopRequest":
    if threading.current_thread() is threading.main_thread():  # handlers can be set in no other
      self._previous = {s: signal.signal(s, self._request) for s in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _request(self, number: int, frame: FrameType | None) -> None:
    self.number = number
    if number == signal.SIGINT:
      signal.signal(signal.SIGINT, signal.default_int_handler)


def name_of(number: int) -> str:
  return signal.Signals(number).name
