"""SoundStream (Zeghidour et al. 2021), the paper's codec (§3.2): generator, quantizer, discriminators."""
