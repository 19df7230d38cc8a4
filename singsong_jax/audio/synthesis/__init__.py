"""The demo songs: made-up music with a made-up voice, and its ground truth (`docs/demo_corpus.md`)."""

from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.audio.synthesis.song import Song, synthesize_song

__all__ = ["CorpusSettings", "Song", "synthesize_song", "write_corpus"]
