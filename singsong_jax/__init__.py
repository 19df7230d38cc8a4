"""SingSong in JAX: instrumental accompaniment for a singing voice (Donahue et al. 2023)."""

import os

# TensorFlow reports a missing GPU as an error. Set here, since jax sets its own value when imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
