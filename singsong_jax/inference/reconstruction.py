"""What a codec keeps of a sound: through codes and back, with all of its levels or the leading ones."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from singsong_jax.audio.code_usage import CodeUsage, code_usage
from singsong_jax.audio.distances import log_mel_distance, si_sdr_db, snr_db
from singsong_jax.audio.io import check_wav_size, to_mono, write_wav
from singsong_jax.audio.resampling import resample, resample_blocks
from singsong_jax.audio.spectrograms import draw_spectrograms
from singsong_jax.audio.tracks import FileTrack
from singsong_jax.codecs.base import Codec
from singsong_jax.errors import InputError
from singsong_jax.inference.progress import progress_bar
from singsong_jax.inference.vocals import Vocals, check_vocals

COMPARED_LEVELS = (1, 2, 4, 8)  # and all
PIECE_SECONDS = 10
_ENCODER_CONTEXT_SECONDS = 1.0  # more than convolutions reach
_PICTURE_SECONDS = 30
_BITS = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fidelity:
  """How near the sound of the leading levels is to the original, both at the codec's rate.

  The measures are those of `audio/distances.py`.
  """

  levels: int
  kbps: float
  si_sdr_db: float
  snr_db: float
  log_mel_l1: float

  @classmethod
  def measure(cls, codec: Codec, levels: int, original: np.ndarray, decoded: np.ndarray) -> "Fidelity":
    return cls(
      levels=levels,
      kbps=bitrate_kbps(codec, levels),
      si_sdr_db=si_sdr_db(original, decoded),
      snr_db=snr_db(original, decoded),
      log_mel_l1=log_mel_distance(original, decoded, codec.sample_rate_hz),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
  """What `reconstruct` found and wrote.

  Attributes:
    fidelity: one for each number of levels that was decoded, ascending.
    usage: of each level's codes, in this sound.
    frames: of codes.
    levels, sample_rate_hz: of the file that was written.
    gain: that file is so many times what was decoded; less than 1 where it would have clipped.
  """

  original: Vocals
  fidelity: list[Fidelity]
  usage: list[CodeUsage]
  frames: int
  levels: int
  sample_rate_hz: int
  gain: float


def reconstruct(
  source: str | os.PathLike,
  target: str | os.PathLike,
  codec: Codec,
  *,
  levels: int | None = None,
  picture: str | os.PathLike | None = None,
  compare: bool = True,
  keep_rate: bool = False,
  max_seconds: float = math.inf,
) -> Reconstruction:
  """Codes the mean of a file's channels, writes what the codes sound like, and measures it.

  Codes and decodes in pieces, so that of the sound's length only waveforms and codes grow with it.

  Args:
    source: audio file of any rate, mono or stereo.
    target: WAV file to write, mono, as long as the source.
    levels: decode so many of the codec's levels (default: all).
    picture: PNG file to draw the first half minute in: the original, then what each number of levels gives.
    compare: measure with 1, 2, 4, 8 and all levels, not just with what is written.
    keep_rate: write the source's sample rate, not the codec's.
    max_seconds: refuse a longer source.

  Raises:
    InputError: the source is missing, not audio, too short, too long, silent or not finite, `target` or
      `picture` cannot be written, or the codec has not so many levels.
  """
  levels = _checked_levels(codec, levels)
  _check_targets(source, target, picture)
  track = check_vocals(FileTrack(source), max_seconds)
  check_wav_size(track.num_samples, 1, _BITS)
  mono = (to_mono(block) for block in track.track.blocks())
  original = np.concatenate([*resample_blocks(mono, track.sample_rate_hz, codec.sample_rate_hz)])
  original = original.astype(np.float32, copy=False)
  codes = encode_in_pieces(codec, original)
  counts = {*COMPARED_LEVELS, codec.num_levels, levels} if compare else {levels}
  counts = sorted(count for count in counts if count <= codec.num_levels)
  shown = round(_PICTURE_SECONDS * codec.sample_rate_hz)
  fidelity, rows, written = [], {"original": original[:shown]}, original
  with progress_bar("decoding", len(counts) * track.seconds) as bar:
    for count in counts:
      decoded = decode_in_pieces(codec, codes[:, :count], bar.update)[: len(original)]
      fidelity.append(Fidelity.measure(codec, count, original, decoded))
      rows[f"{levels_label(count)}, {fidelity[-1].kbps:g} kbps"] = decoded[:shown].copy()
      written = decoded if count == levels else written
  rate_hz = track.sample_rate_hz if keep_rate else codec.sample_rate_hz
  if rate_hz != codec.sample_rate_hz:
    written = resample(written, codec.sample_rate_hz, rate_hz)[: track.num_samples]
  gain = 1 / max(1.0, float(np.abs(written).max()))
  write_wav(target, written * np.float32(gain), rate_hz, _BITS)
  if picture:
    draw_spectrograms(picture, {codec.name: rows}, codec.sample_rate_hz)
  return Reconstruction(
    original=track,
    fidelity=fidelity,
    usage=code_usage(codes, codec.num_codes),
    frames=len(codes),
    levels=levels,
    sample_rate_hz=rate_hz,
    gain=gain,
  )


def bitrate_kbps(codec: Codec, levels: int) -> float:
  """Of the leading levels' codes, stored as they are."""
  return levels * math.log2(codec.num_codes) * codec.frame_rate_hz / 1000


def levels_label(count: int) -> str:
  """For people."""
  return f"{count} level" if count == 1 else f"{count} levels"


def encode_in_pieces(codec: Codec, waveform: np.ndarray) -> np.ndarray:
  """Codes of a waveform of any length in little memory.

  Each piece is coded with a second of its neighbours on both sides. A codec whose encoder looks further than
  that may give other codes at the seams than for the whole.

  Args:
    waveform: float `[samples]` at the codec's rate.

  Returns:
    int32 `[frames, num_levels]`.
  """
  hop = hop_samples(codec)
  context = max(math.ceil(_ENCODER_CONTEXT_SECONDS * codec.frame_rate_hz), codec.context_frames)
  pieces = []
  with progress_bar("encoding", len(waveform) / codec.sample_rate_hz) as bar:
    for start, stop in _pieces(codec, -(-len(waveform) // hop)):
      first = max(0, start - context)
      codes = codec.encode(waveform[first * hop : (stop + context) * hop])
      pieces.append(codes[start - first : stop - first])
      bar.update(len(pieces[-1]) / codec.frame_rate_hz)
  return np.concatenate(pieces)


def decode_in_pieces(codec: Codec, codes: np.ndarray, done: Callable[[float], object]) -> np.ndarray:
  """Codes `[frames, levels]` to float32 `[frames · hop]`; `done` is told the seconds of each piece."""
  hop, pieces = hop_samples(codec), []
  for start, stop in _pieces(codec, len(codes)):
    first = max(0, start - codec.context_frames)
    waveform = codec.decode(codes[first : stop + codec.context_frames], first_frame=first)
    pieces.append(waveform[(start - first) * hop : (stop - first) * hop])
    done((stop - start) / codec.frame_rate_hz)
  return np.concatenate(pieces)


def hop_samples(codec: Codec) -> int:
  return round(codec.sample_rate_hz / codec.frame_rate_hz)


def _pieces(codec: Codec, num_frames: int) -> Iterator[tuple[int, int]]:
  """First and last + 1 frame of each piece."""
  step = max(1, round(PIECE_SECONDS * codec.frame_rate_hz))
  return ((start, min(start + step, num_frames)) for start in range(0, num_frames, step))


def _checked_levels(codec: Codec, levels: int | None) -> int:
  if levels is None:
    return codec.num_levels
  if not 1 <= levels <= codec.num_levels:
    raise InputError(f"{levels} levels: {codec.name} has 1 … {codec.num_levels}")
  return levels


def _check_targets(
  source: str | os.PathLike, target: str | os.PathLike, picture: str | os.PathLike | None
) -> None:
  for path, suffix in ((target, ".wav"), (picture, ".png")):
    if path is not None and pathlib.Path(path).suffix.lower() != suffix:
      raise InputError(f"cannot write {path}: its name has to end in {suffix}")
  if pathlib.Path(source).resolve() == pathlib.Path(target).resolve():
    raise InputError(f"{target} is the file to read; give another one to write")


def fidelity_table(fidelity: Sequence[Fidelity]) -> str:
  """For people."""
  lines = ["levels    kbps   SI-SDR, dB   SNR, dB   log-mel L1"]
  for row in fidelity:
    lines.append(
      f"{row.levels:6d} {row.kbps:7.2f} {row.si_sdr_db:12.2f} {row.snr_db:9.2f} {row.log_mel_l1:12.3f}"
    )
  return "\n".join(lines)


def usage_table(usage: Sequence[CodeUsage]) -> str:
  """For people."""
  lines = [" level   codes used   share   perplexity"]
  for level, row in enumerate(usage, start=1):
    lines.append(f"{level:6d} {row.used:12d} {row.share:7.1%} {row.perplexity:12.1f}")
  return "\n".join(lines)
