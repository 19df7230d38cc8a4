"""Waveforms: reading, levels, mixing, separation, and the demo songs. NumPy, SciPy, soundfile."""
