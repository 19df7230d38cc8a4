"""Opus at its lowest bit rate, 6 kbps, as libsndfile has it: what 12 codes of 10 bits 50 times a second cost.

Variable bit rate, 20 ms frames, complexity 10, `OPUS_APPLICATION_AUDIO`: libsndfile leaves no choice.
"""

import io

import numpy as np
import scipy.signal
import soundfile

RATE_HZ = 16_000  # one of Opus's own
_LOWEST_RATE = 1.0  # libsndfile's compression level: 6 kbps a channel
_MAX_DELAY_SECONDS = 0.05
_HEADER_PACKETS = 2


def is_available() -> bool:
  """Whether this libsndfile has Opus."""
  return "OPUS" in soundfile.available_subtypes("OGG")


def code(waveform: np.ndarray) -> tuple[np.ndarray, float]:
  """Through Opus and back.

  Args:
    waveform: float32 `[samples]` at RATE_HZ.

  Returns:
    The decoded waveform, of the same length and moved to where it fits the original best, and the kbps of its
    packets: what the container adds is not counted.
  """
  stream = io.BytesIO()
  soundfile.write(stream, waveform, RATE_HZ, format="OGG", subtype="OPUS", compression_level=_LOWEST_RATE)
  size = sum(packet_bytes(stream.getvalue())[_HEADER_PACKETS:])
  stream.seek(0)
  decoded, _ = soundfile.read(stream, dtype="float32")
  return aligned(decoded, waveform), 8 * size / (len(waveform) / RATE_HZ) / 1000


def aligned(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
  """`decoded` `[n]`, moved by the whole samples that make it correlate most with `original`, and as long."""
  largest = round(_MAX_DELAY_SECONDS * RATE_HZ)
  padded = np.pad(decoded, (largest, largest + max(0, len(original) - len(decoded))))
  padded = padded[: len(original) + 2 * largest]
  delay = int(np.argmax(scipy.signal.correlate(padded, original, "valid")))
  return padded[delay : delay + len(original)]


def packet_bytes(ogg: bytes) -> list[int]:
  """Sizes of the packets in an Ogg stream (RFC 3533): a lacing value below 255 ends one."""
  sizes, size, at = [], 0, 0
  while at < len(ogg):
    count = ogg[at + 26]
    lacing = ogg[at + 27 : at + 27 + count]
    for value in lacing:
      size += value
      if value < 255:
        sizes.append(size)
        size = 0
    at += 27 + count + sum(lacing)
  return sizes
