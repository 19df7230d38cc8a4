"""Which recording is this? Robust audio fingerprints after Haitsma & Kalker (ISMIR 2002).

A recording becomes a word of 32 bits every 11.6 ms: bit b says whether the difference between the energies
of bands b and b + 1 rises or falls over time. Formats, levels, rates and some noise flip few of the bits;
two recordings agree in half of them. So an excerpt is found by looking words up, and believed if long
stretches around them agree.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import scipy.fft

from singsong_jax import files
from singsong_jax.audio.resampling import resample_blocks
from singsong_jax.audio.tracks import BLOCK_SAMPLES, reblock
from singsong_jax.errors import InputError

RATE_HZ, FRAME_SAMPLES, HOP_SAMPLES = 5_500, 2_048, 64  # frames of 0.37 s, 11.6 ms apart
BANDS, LOWEST_HZ, HIGHEST_HZ = 33, 300.0, 2_000.0
# Where energy moves by less than this share of itself, bits say nothing: silence and tones that stand still.
LEAST_CHANGE, LEAST_ENERGY = 1e-3, 1e-6
SILENT = np.uint32(0)

# 6 s must agree, where the paper asks for 3 s and 0.35: songs of the same synthesisers can have 3 s alike.
# Codecs, rates and noise at 15 dB give 0 to 0.15; the nearest of 226 minutes of music to 499 others had 0.44.
STRETCH_WORDS, MAX_BIT_ERRORS = 512, 0.28
MIN_HEARD_WORDS, MIN_DISTINCT_WORDS = 256, 96  # of a stretch: not mostly silence, nor a short loop
_COMMON = 32  # a word that occurs more often finds too much
_FRAMES_AT_A_TIME = 1_024
_PADDING = 2 * STRETCH_WORDS


# The first bin of each band, and the end of the last.
_EDGES = np.searchsorted(
  np.fft.rfftfreq(FRAME_SAMPLES, 1 / RATE_HZ), np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)
)
_WINDOW = np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)


def fingerprint(mono: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """float `[samples]` → uint32 `[frames]`; `SILENT` where nothing is to be heard."""
  return fingerprint_blocks([mono], sample_rate_hz)


def fingerprint_blocks(blocks: Iterable[np.ndarray], sample_rate_hz: int) -> np.ndarray:
  """The same of a waveform in blocks `[n]` of any lengths, in memory that does not grow with it."""
  even = reblock(blocks, BLOCK_SAMPLES)  # so that the blocks' lengths make no difference
  slow = resample_blocks(even, sample_rate_hz, RATE_HZ)
  energies = list(_energies(reblock(slow, _FRAMES_AT_A_TIME * HOP_SAMPLES)))
  return _words(np.concatenate(energies)) if energies else np.zeros(0, np.uint32)


def _energies(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
  """Energy of each frame and band, float32 `[frames, bands]`."""
  rest = np.zeros(0, np.float32)
  for block in blocks:
    waveform = np.concatenate([rest, block.astype(np.float32, copy=False)])
    if len(waveform) < FRAME_SAMPLES:
      rest = waveform
      continue
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::HOP_SAMPLES]
    spectrum = scipy.fft.rfft(frames * _WINDOW, axis=1)[:, _EDGES[0] : _EDGES[-1]]
    yield np.add.reduceat(np.abs(spectrum) ** 2, _EDGES[:-1] - _EDGES[0], axis=1)
    rest = waveform[len(frames) * HOP_SAMPLES :]


def _words(energies: np.ndarray) -> np.ndarray:
  """`[frames, bands]` → uint32 `[frames − 1]`."""
  if len(energies) < 2:
    return np.zeros(0, np.uint32)
  slopes = np.diff(energies, axis=1)  # [frames, 32]
  changes = np.diff(slopes, axis=0)  # [frames − 1, 32]
  words = np.packbits(changes > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
  energy = energies[1:].sum(axis=1)
  still = (np.abs(changes).sum(axis=1) <= LEAST_CHANGE * energy) | (energy < LEAST_ENERGY)
  return np.where(still, SILENT, words)


class Index:
  """Fingerprints of known recordings, to look others up in."""

  def __init__(self, prints: Mapping[str, np.ndarray]):
    """`prints`: name → what `fingerprint` gave."""
    self._names = list(prints)
    padding = np.zeros(_PADDING, np.uint32)
    self._starts = np.cumsum([_PADDING, *(len(words) + _PADDING for words in prints.values())])[:-1]
    self._words = np.concatenate([padding, *(part for words in prints.values() for part in (words, padding))])
    heard = np.flatnonzero(self._words)
    self._order = heard[np.argsort(self._words[heard], kind="stable")]
    self._sorted = self._words[self._order]

  def match(self, words: np.ndarray) -> str | None:
    """The name of a recording of which `words`, uint32 `[frames]`, holds 10 s or more; None where there is
    none.
    """
    pairs = self._alignments(words)  # [n, 2]: word of the query, and where that stands in the index
    if not len(pairs):
      return None
    errors = self._bit_errors(words, pairs)
    best = int(np.argmin(errors))
    if errors[best] > MAX_BIT_ERRORS:
      return None
    end = pairs[best, 1] + STRETCH_WORDS - 1  # the stretch may begin in the padding before its recording
    return self._names[int(np.searchsorted(self._starts, end, side="right")) - 1]

  def _alignments(self, words: np.ndarray) -> np.ndarray:
    """Where words of the query, or those with one bit flipped, occur in the index; each alignment once in 3
    s.
    """
    flips = np.concatenate([[0], np.uint32(1) << np.arange(32, dtype=np.uint32)]).astype(np.uint32)
    found = []
    for flip in flips:
      wanted = words ^ flip
      first = np.searchsorted(self._sorted, wanted, side="left")
      count = np.searchsorted(self._sorted, wanted, side="right") - first
      count[(words == SILENT) | (count > _COMMON)] = 0
      query = np.repeat(np.arange(len(words)), count)
      nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
      place = self._order[np.repeat(first, count) + nth]
      found.append(np.stack([query // 256 * 256, place - query], axis=1))
    start, shift = np.unique(np.concatenate(found), axis=0).T
    return np.stack([start, start + shift], axis=1)

  def _bit_errors(self, words: np.ndarray, pairs: np.ndarray, at_a_time: int = 2_048) -> np.ndarray:
    """Share of unlike bits in the stretches that begin at each pair; 0.5 where they tell too little."""
    query = np.concatenate([words, np.zeros(_PADDING, np.uint32)])
    reach = np.arange(STRETCH_WORDS)
    errors = np.empty(len(pairs))
    for begin in range(0, len(pairs), at_a_time):
      start, place = pairs[begin : begin + at_a_time].T
      inside = np.clip(place[:, None] + reach, 0, len(self._words) - 1)
      one, other = query[start[:, None] + reach], self._words[inside]
      heard = (one != SILENT) & (other != SILENT)
      unlike = np.bitwise_count(one ^ other) * heard
      total = heard.sum(axis=1)
      share = unlike.sum(axis=1, dtype=np.int64) / np.maximum(1, 32 * total)
      telling = (total >= MIN_HEARD_WORDS) & (_distinct(one * heard) >= MIN_DISTINCT_WORDS)
      errors[begin : begin + at_a_time] = np.where(telling, share, 0.5)
    return errors


def _distinct(words: np.ndarray) -> np.ndarray:
  """How many different words each row has."""
  ordered = np.sort(words, axis=1)
  return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)


def save(path: str | os.PathLike, prints: Mapping[str, np.ndarray]) -> None:
  """Writes fingerprints by name, in one rename. Raises InputError where that fails."""
  with files.replacing(path) as temporary, open(temporary, "wb") as stream:
    np.savez_compressed(
      stream, names=np.array(list(prints)), **{f"p{i}": p for i, p in enumerate(prints.values())}
    )


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads what `save` wrote. Raises InputError where the file is something else."""
  try:
    with np.load(path, allow_pickle=False) as stored:
      return {str(name): stored[f"p{index}"] for index, name in enumerate(stored["names"])}
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(f"{path} is not a file of fingerprints: {error}") from error
