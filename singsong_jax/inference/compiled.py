"""What jax compiled, kept for the next command."""

import os
import pathlib

import jax


def keep_compiled_programs() -> None:
  """Has jax keep what it compiles, so that a later process starts sooner.

  In $SINGSONG_CACHE_DIR, or else $XDG_CACHE_HOME/singsong_jax or ~/.cache/singsong_jax.
  """
  cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  folder = pathlib.Path(os.environ.get("SINGSONG_CACHE_DIR") or pathlib.Path(cache) / "singsong_jax")
  jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
