"""Makes `toy_system` importable, and keeps TensorFlow out of the quick tests."""

import pathlib
import sys

import gin
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER))

from singsong_jax.training import metrics  # noqa: E402

# The tests, and the programs they start, compile the same few functions over and over.
COMPILATION_CACHE = {
  "jax_persistent_cache_min_compile_time_secs": 0,
  "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(autouse=True, scope="package")
def _compile_once(tmp_path_factory):
  settings = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("jax")), **COMPILATION_CACHE}
  before = {name: getattr(jax.config, name) for name in settings}
  with pytest.MonkeyPatch.context() as patch:
    for name, value in settings.items():
      patch.setenv(name.upper(), str(value))
      jax.config.update(name, value)
    yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def _no_tensorboard(monkeypatch):
  monkeypatch.setattr(metrics, "_tensorboard_writer", lambda folder: None)


@pytest.fixture(autouse=True)
def _no_bindings():
  gin.clear_config()
  yield
  gin.clear_config()
