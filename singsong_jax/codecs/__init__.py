"""Audio codecs: waveform ⇄ frames × levels of codes. One backend a file."""
