"""One paper a file: a network, its loss and its generation wired together (`base.System`)."""

from typing import Any

from singsong_jax.errors import InputError
from singsong_jax.systems.base import System
from singsong_jax.systems.fine import Fine
from singsong_jax.systems.singsong import SingSong
from singsong_jax.systems.soundstream import SoundStream
from singsong_jax.systems.w2v_bert import W2vBertSystem

_SYSTEMS: dict[str, Any] = {system.name: system for system in (SingSong, Fine, SoundStream, W2vBertSystem)}


def system_from_description(description: dict[str, Any]) -> System:
  """The system that `System.describe` described. Raises InputError for one this version cannot build."""
  name = description.get("system") if isinstance(description, dict) else None
  if name not in _SYSTEMS:
    raise InputError(f"unknown system {name!r}; this version knows {', '.join(_SYSTEMS)}")
  try:
    return _SYSTEMS[name].from_description(description)
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f"the description of system {name!r} does not fit this version: {error}") from error
