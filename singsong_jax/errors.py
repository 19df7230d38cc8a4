"""The one exception type that means "the input is wrong, not the program"."""


class InputError(ValueError):
  """Something the user gave cannot be used.

  The message names the file or setting, the value found, the limit it breaks and, where there is
  one, the fix. Command-line mains print it as one line and exit with status 2 (see `cli.py`); a
  library caller can catch it as a `ValueError`.
  """
