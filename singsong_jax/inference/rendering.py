"""Codes to sound, a few seconds at a time."""

from collections.abc import Iterator

import numpy as np

from singsong_jax.audio.resampling import resample_blocks
from singsong_jax.audio.tracks import reblock
from singsong_jax.codecs.base import Codec
from singsong_jax.inference.progress import progress_bar
from singsong_jax.inference.vocals import Vocals
from singsong_jax.inference.windows import CodeStream

PIECE_SECONDS = 10


def decode(codec: Codec, codes: CodeStream, sample: int, vocals: Vocals) -> Iterator[np.ndarray]:
  """One sample of a stream as sound of the vocals' rate and length.

  Yields:
    float32 `[1, tracks.BLOCK_SAMPLES]`, the last block shorter.
  """
  pieces = _pieces(codec, codes, sample, vocals.samples_at(codec.sample_rate_hz))
  resampled = resample_blocks(pieces, codec.sample_rate_hz, vocals.sample_rate_hz)
  return reblock(resampled, num_samples=vocals.num_samples)


def _pieces(codec: Codec, codes: CodeStream, sample: int, num_samples: int) -> Iterator[np.ndarray]:
  """At least `num_samples` at the codec's rate, as float32 `[1, n]`."""
  hop = round(codec.sample_rate_hz / codec.frame_rate_hz)
  step = round(PIECE_SECONDS * codec.frame_rate_hz)
  with progress_bar("decoding", num_samples / codec.sample_rate_hz) as bar:
    for start in range(0, -(-num_samples // hop), step):
      stop = min(start + step, codes.num_frames)
      first, last = max(0, start - codec.context_frames), min(codes.num_frames, stop + codec.context_frames)
      waveform = codec.decode(codes.read(first, last)[sample], first_frame=first)
      yield waveform[None, (start - first) * hop : (stop - first) * hop]
      bar.update(min((stop - start) / codec.frame_rate_hz, bar.total - bar.n))
