"""Which recording is this? Robust audio fingerprints after Haitsma & Kalker (ISMIR 2002).

A recording becomes a word of 32 bits every 11.6 ms: bit b says whether the difference between the energies
of bands b and b + 1 rises or falls over time. Formats, levels, rates and some noise flip few of the bits;
two recordings agree in half of them. So an excerpt is found by looking words up, and believed if a long
stretch from there on agrees and is no pulse, drone or siren, which many recordings have.
"""

import os
import zipfile
import zlib
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

# Words of a stretch → share of bits that may differ. The paper asks for 3 s and 0.35, but songs of the same
# synthesisers can have 3 s alike; and what 6 s leave open, 24 s can tell. `benchmarks/fingerprints.py` says
# what is found and what is mistaken with these limits.
STRETCHES = {512: 0.28, 2_048: 0.32}
_PROMISING = 0.4  # what agrees less over 6 s is not worth 24
MIN_HEARD = 0.5  # of a stretch: not mostly silence
# How many independent bits the words of a stretch are worth. Clicks, drums alone, stabs, tremolo and sirens
# have fewer, and agree with any others of their tempo; music has more.
MIN_VARIETY = 5.0
_MOST_PLACES = 32  # of one word that are looked at: a loop's other rounds tell no more
_GRID = 256  # of a query, stretches begin at multiples of it
_WORDS_AT_A_TIME, _STRETCHES_AT_A_TIME, _FRAMES_AT_A_TIME = 64 * _GRID, 256, 1_024
_PADDING = max(STRETCHES) + _GRID  # a stretch that begins in a recording, or a grid before, meets no other
# What np.load raises about damaged files; RuntimeError: a compression or cipher that zipfile does not know.
_UNREADABLE = (
  OSError,
  ValueError,
  LookupError,
  TypeError,
  EOFError,
  RuntimeError,
  zipfile.BadZipFile,
  zlib.error,
)


# The first bin of each band, and the end of the last.
_EDGES = np.searchsorted(
  np.fft.rfftfreq(FRAME_SAMPLES, 1 / RATE_HZ), np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)
)
_WINDOW = np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)


def fingerprint(mono: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """float `[samples]` → uint32 `[frames]`; `SILENT` where nothing is to be heard."""
  return fingerprint_blocks([mono], sample_rate_hz)


def fingerprint_blocks(blocks: Iterable[np.ndarray], sample_rate_hz: int) -> np.ndarray:
  """The same of a waveform in blocks `[n]` of any lengths, with nothing but the words in memory."""
  even = reblock(blocks, BLOCK_SAMPLES)  # so that the blocks' lengths make no difference
  slow = resample_blocks(even, sample_rate_hz, RATE_HZ)
  words, before = [np.zeros(0, np.uint32)], np.zeros((0, BANDS), np.float32)
  for energies in _energies(reblock(slow, _FRAMES_AT_A_TIME * HOP_SAMPLES)):
    words.append(_words(np.concatenate([before, energies])))
    before = energies[-1:]
  return np.concatenate(words)


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
    for first in range(0, len(words), _WORDS_AT_A_TIME):
      query = words[first : first + _WORDS_AT_A_TIME + _PADDING]
      query = np.pad(query, (0, _PADDING))
      pairs = self._alignments(query)
      for stretch, most_errors in STRETCHES.items():
        errors = self._bit_errors(query, pairs, stretch, most_errors)
        best = int(np.argmin(errors)) if len(pairs) else None
        if best is not None and errors[best] <= most_errors:
          return self._recording_at(pairs[best, 1] + _GRID - 1)
        pairs = pairs[errors <= _PROMISING]
    return None

  def _recording_at(self, place: int) -> str:
    return self._names[int(np.searchsorted(self._starts, place, side="right")) - 1]

  def _alignments(self, query: np.ndarray) -> np.ndarray:
    """Where words of the query, or those with one bit flipped, occur in the index.

    Args:
      query: uint32 `[_WORDS_AT_A_TIME]` or less, and what follows them.

    Returns:
      int `[n, 2]`, each once: the first word of a stretch of the query, and its place in the index.
    """
    words = _telling_words(query)
    flips = np.concatenate([[0], np.uint32(1) << np.arange(32, dtype=np.uint32)]).astype(np.uint32)
    found = []
    for flip in flips:
      first = np.searchsorted(self._sorted, words ^ flip, side="left")
      count = np.searchsorted(self._sorted, words ^ flip, side="right") - first
      count = np.where(words == SILENT, 0, np.minimum(count, _MOST_PLACES))
      at = np.repeat(np.arange(len(words)), count)
      nth = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
      place = self._order[np.repeat(first, count) + nth]
      found.append(at // _GRID * len(self._words) + place - at % _GRID)
    stretch, place = np.divmod(np.unique(np.concatenate(found)), len(self._words))
    return np.stack([stretch * _GRID, place], axis=1)

  def _bit_errors(self, query: np.ndarray, pairs: np.ndarray, stretch: int, most_errors: float) -> np.ndarray:
    """Share of unlike bits in the `stretch` words from each pair on; 0.5 where they tell too little."""
    reach = np.arange(stretch)
    errors = np.empty(len(pairs))
    for begin in range(0, len(pairs), _STRETCHES_AT_A_TIME):
      start, place = pairs[begin : begin + _STRETCHES_AT_A_TIME].T[..., None]
      one, other = query[start + reach], self._words[place + reach]
      heard = (one != SILENT) & (other != SILENT)
      unlike = np.bitwise_count(one ^ other) * heard
      total = heard.sum(axis=1)
      share = unlike.sum(axis=1, dtype=np.int64) / np.maximum(1, 32 * total)
      share[total < MIN_HEARD * stretch] = 0.5
      near = np.flatnonzero(share <= most_errors)
      share[near[_variety(other[near]) < MIN_VARIETY]] = 0.5
      errors[begin : begin + _STRETCHES_AT_A_TIME] = share
    return errors


def _telling_words(query: np.ndarray) -> np.ndarray:
  """The first words of a query, `SILENT` where the stretch they begin has no variety."""
  words = query[: min(_WORDS_AT_A_TIME, len(query) - _PADDING)]
  starts = np.arange(0, len(words), _GRID)
  stretches = query[starts[:, None] + np.arange(min(STRETCHES))]
  varied = np.repeat(_variety(stretches) >= MIN_VARIETY, _GRID)[: len(words)]
  return np.where(varied, words, SILENT)


def _variety(stretches: np.ndarray) -> np.ndarray:
  """How many independent bits the words of each stretch are worth: uint32 `[n, words]` → `[n]`, 1 … 32.

  The participation ratio of the bits' correlations: 1 where all bits flip together.
  """
  heard = (stretches != SILENT)[..., None]
  bits = np.where(stretches[..., None] >> np.arange(32, dtype=np.uint32) & 1, 1, -1).astype(np.float32)
  bits *= heard  # [n, words, 32]
  products = np.square(np.swapaxes(bits, 1, 2) @ bits).sum(axis=(1, 2))
  return np.square(32 * heard.sum(axis=(1, 2))) / np.maximum(1, products)


def save(path: str | os.PathLike, prints: Mapping[str, np.ndarray]) -> None:
  """Writes fingerprints by name, in one rename. Raises InputError where that fails."""
  with files.replacing(path) as temporary, open(temporary, "wb") as stream:
    np.savez_compressed(
      stream, names=np.array(list(prints)), **{f"p{i}": p for i, p in enumerate(prints.values())}
    )


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads what `save` wrote. Raises InputError where the file is something else, or damaged."""
  try:
    with open(path, "rb") as stream:  # np.load leaves a damaged file open
      stored = np.load(stream, allow_pickle=False)
      prints = {str(name): stored[f"p{index}"] for index, name in enumerate(stored["names"])}
  except _UNREADABLE as error:
    raise InputError(f"{path} is not a file of fingerprints: {error}") from error
  if any(words.dtype != np.uint32 or words.ndim != 1 for words in prints.values()):
    raise InputError(f"{path} is not a file of fingerprints: its arrays are not lists of 32-bit words")
  return prints
