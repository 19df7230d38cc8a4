"""Semantic encoders: waveform → one code a frame, for what is sung or played. One backend a file."""
