"""Autoregressive sampling over the legal ids of each position."""
