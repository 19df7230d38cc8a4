"""Vocals → windows → tokens → instrumental → mix."""
