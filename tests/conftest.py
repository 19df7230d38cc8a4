"""Settings for all tests."""

import os

# Tests compile much and compute little: unoptimised code is sooner done. Commands they start inherit it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# What tests compile does not belong into the user's cache.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
