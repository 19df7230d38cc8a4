"""Grids of training runs: which there are, how each is started, how far each is."""
