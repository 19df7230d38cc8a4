"""How the codes of a semantic encoder are used, and the chords that they tell."""

import collections
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.codec_audio import stem_clips
from singsong_jax.audio.code_usage import code_usage
from singsong_jax.audio.synthesis import Song
from singsong_jax.semantics.base import SemanticEncoder


def report(encoder: SemanticEncoder, known: Sequence[Song], test: Sequence[Song]) -> dict[str, Any]:
  """Usage on vocals and instrumentals of `test`.

  Args:
    known: what the chord of each code is read off.
  """
  clips = [*stem_clips(test, "vocals"), *stem_clips(test, "instrumental")]
  codes = np.concatenate([encoder.encode(clip.at(encoder.sample_rate_hz)) for clip in clips])
  (usage,) = code_usage(codes[:, None], encoder.num_codes)
  return {
    "name": encoder.name,
    "fingerprint": encoder.fingerprint(),
    "frames": len(codes),
    **usage._asdict(),
    "entropy_nats": math.log(usage.perplexity),
    "chord_accuracy": chord_accuracy(encoder, known, test),
  }


def chord_accuracy(encoder: SemanticEncoder, known: Sequence[Song], test: Sequence[Song]) -> float:
  """Share of the test songs' frames whose chord is the one their code mostly has in the known songs."""
  seen: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
  for code, chord in codes_and_chords(encoder, known):
    seen[code][chord] += 1
  usual = {code: chords.most_common(1)[0][0] for code, chords in seen.items()}
  return float(np.mean([usual.get(code) == chord for code, chord in codes_and_chords(encoder, test)]))


def codes_and_chords(encoder: SemanticEncoder, songs: Sequence[Song]) -> list[tuple[int, str]]:
  """(semantic code of the instrumental, true chord) of every frame."""
  pairs = []
  for song, clip in zip(songs, stem_clips(songs, "instrumental")):
    codes = encoder.encode(clip.at(encoder.sample_rate_hz))
    pairs += zip(codes.tolist(), chord_labels(song.annotation, len(codes), encoder.frame_rate_hz))
  return pairs


def chord_labels(annotation: dict, frames: int, frame_rate_hz: float) -> list[str]:
  """The chord at each frame's centre."""
  centres = (np.arange(frames) + 0.5) / frame_rate_hz
  beats = np.searchsorted(annotation["beats_seconds"], centres) - 1
  return [annotation["chords"][beat] for beat in np.clip(beats, 0, len(annotation["chords"]) - 1)]
