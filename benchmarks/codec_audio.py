"""Sound to measure tokenisers with: songs of a seed that none is trained on, and a voice that no song has."""

import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from singsong_jax.audio.io import read_audio
from singsong_jax.audio.resampling import resample
from singsong_jax.audio.synthesis import Song, synthesize_song

RATE_HZ = 44_100
HELD_OUT_CORPUS = 9_999  # as `data_pipelines.synthesize --seed`; train on any other
STEMS = ("vocals", "instrumental", "mix")

# eSpeak NG's voice → what it says; its own formant synthesis, not recordings.
SPOKEN = {
  "en-us": "The harbour was quiet, and nobody had told the fishermen that the ships would come back today.",
  "en-us+f4": "Seven yellow umbrellas leaned on the wall; she chose the smallest and walked into the rain.",
  "it": "La musica comincia piano, poi le voci si uniscono e tutta la piazza canta fino a tarda sera.",
}


class Clip(NamedTuple):
  """A mono waveform float32 `[samples]` and its rate."""

  waveform: np.ndarray
  sample_rate_hz: int

  def at(self, rate_hz: int) -> np.ndarray:
    """float32 `[samples]`, resampled."""
    if rate_hz == self.sample_rate_hz:
      return self.waveform
    return resample(self.waveform, self.sample_rate_hz, rate_hz).astype(np.float32, copy=False)


def corpus_songs(corpus: int, count: int, seconds: float) -> list[Song]:
  """The first songs of the demo corpus of that seed."""
  return [synthesize_song(corpus * 100_000 + number, seconds, RATE_HZ) for number in range(count)]


def stem_clips(songs: Sequence[Song], stem: str) -> list[Clip]:
  """'vocals', 'instrumental' or 'mix' of each song."""
  return [Clip(np.float32(getattr(song, stem)), RATE_HZ) for song in songs]


def spoken_clips() -> list[Clip]:
  """A sentence in each voice of SPOKEN; none where eSpeak NG is not installed."""
  if not shutil.which("espeak-ng"):
    return []
  clips = []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "voice.wav"
    for voice, text in SPOKEN.items():
      subprocess.run(["espeak-ng", "-v", voice, "-s", "140", "-w", path, text], check=True)
      waveform, rate_hz = read_audio(path)
      clips.append(Clip(waveform[0], rate_hz))
  return clips
