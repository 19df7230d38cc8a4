"""Settings for all tests."""

import os

# Tests compile much and compute little: unoptimised code is sooner done. Commands they start inherit it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
