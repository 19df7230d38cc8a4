"""The one exception type that means "the input is wrong, not the program"."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
  """Something the user gave cannot be used.

  The message names the file or setting, the value found, the limit it breaks and, where there is
  one, the fix. Command-line mains print it as one line and exit with status 2 (see `cli.py`); a
  library caller can catch it as a `ValueError`.
  """


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """The end of a message about an unknown name: "; did you mean …?", or nothing where none is near."""
  near = difflib.get_close_matches(name, sorted(known), n=1)
  return f"; did you mean {near[0]}?" if near else ""
