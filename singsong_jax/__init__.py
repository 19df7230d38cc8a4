"""SingSong in JAX: instrumental accompaniment for a singing voice (Donahue et al. 2023)."""

__version__ = "0.1.0"
