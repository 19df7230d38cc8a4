"""What every tokeniser asks of a waveform."""

import numpy as np

from singsong_jax.errors import InputError


def require_finite_samples(waveform: np.ndarray) -> None:
  """Raises InputError where a sample of `waveform` `[...]` is NaN or infinite."""
  if not np.isfinite(waveform).all():
    raise InputError("the waveform has samples that are NaN or infinite; expected finite ones")
