"""Are copies of songs found by their fingerprints, and other songs left alone?

python -m benchmarks.fingerprints --fingerprint_songs=FOLDER --output=RESULTS.json

Of a folder of different recordings some are listed. The others must match nothing; and excerpts of the
listed ones, in other formats, rates and levels, must be found under their own names.
"""

import io
import json
import random
import time
from collections.abc import Callable

import numpy as np
import soundfile
import tqdm
from absl import app, flags

from benchmarks import reports
from data_pipelines.exclusions import fingerprints, hear
from data_pipelines.load import load_song
from data_pipelines.sources.base import Song, find_songs
from singsong_jax import files
from singsong_jax.audio import fingerprint
from singsong_jax.audio.resampling import resample

_SONGS = flags.DEFINE_string(
  "fingerprint_songs", None, "folder of recordings, each there once", required=True
)
_LISTED = flags.DEFINE_integer("listed", 50, "songs that are listed, at most half of them")
_DISGUISED = flags.DEFINE_integer("disguised", 36, "listed songs that are disguised and looked up")
RATE_HZ = 44_100
Disguise = Callable[[np.ndarray], tuple[np.ndarray, int]]


def _coded(waveform: np.ndarray, **options) -> tuple[np.ndarray, int]:
  stored = io.BytesIO()
  soundfile.write(stored, waveform, RATE_HZ, **options)
  return soundfile.read(io.BytesIO(stored.getvalue()), dtype="float32")[0], RATE_HZ


def _noisy(snr_db: float) -> Disguise:
  def disguise(waveform: np.ndarray) -> tuple[np.ndarray, int]:
    scale = np.sqrt(np.mean(waveform**2)) * 10 ** (-snr_db / 20)
    return waveform + np.random.default_rng(0).normal(0, scale, len(waveform)).astype(np.float32), RATE_HZ

  return disguise


DISGUISES: dict[str, Disguise] = {
  "as it is": lambda x: (x, RATE_HZ),
  "20 dB quieter": lambda x: (x / 10, RATE_HZ),
  "16 kHz": lambda x: (resample(x, RATE_HZ, 16_000), 16_000),
  "MP3": lambda x: _coded(x, format="MP3"),
  "Vorbis, lowest quality": lambda x: _coded(x, format="OGG", subtype="VORBIS", compression_level=1.0),
  "noise at 15 dB": _noisy(15),
  "noise at 5 dB": _noisy(5),
}


def main(_) -> None:
  songs = find_songs(_SONGS.value).songs
  random.Random(0).shuffle(songs)
  number = min(_LISTED.value, len(songs) // 2)
  listed, others = songs[:number], songs[number:]
  prints = fingerprints(tqdm.tqdm(listed, desc="listing", unit="song"))
  index = fingerprint.Index(dict(zip([song.id for song in listed], prints.values(), strict=True)))
  result = {"machine": reports.describe_machine(), "listed": number, "others": len(others)}
  result["mistaken"] = find_mistakes(index, others)
  result["found"] = {
    f"{seconds} s": find_disguised(index, listed[: _DISGUISED.value], seconds) for seconds in (10, 30)
  }
  print(json.dumps(result, indent=2, ensure_ascii=False))
  if reports.OUTPUT.value:
    files.write_json(reports.OUTPUT.value, result)


def find_mistakes(index: fingerprint.Index, songs: list[Song]) -> dict[str, object]:
  """Which of songs that are not listed match, and how long it takes."""
  mistaken, audio_seconds, making, looking = {}, 0.0, 0.0, 0.0
  for song in tqdm.tqdm(songs, desc="others", unit="song"):
    started = time.perf_counter()
    with load_song(song, window_seconds=0, hear=hear) as loaded:
      making += time.perf_counter() - started
    started = time.perf_counter()
    if (name := index.match(loaded.heard)) is not None:
      mistaken[song.id] = name
    looking += time.perf_counter() - started
    audio_seconds += loaded.seconds
  return {
    "songs": mistaken,
    "hours": audio_seconds / 3600,
    "seconds_a_minute": {
      "reading and making": 60 * making / audio_seconds,
      "looking up": 60 * looking / audio_seconds,
    },
  }


def find_disguised(index: fingerprint.Index, songs: list[Song], seconds: int) -> dict[str, float]:
  """The share of excerpts that are found, under the right name, by disguise."""
  found = dict.fromkeys(DISGUISES, 0)
  for song in tqdm.tqdm(songs, desc=f"{seconds} s", unit="song"):
    with load_song(song, window_seconds=0, hear=list) as loaded:
      mix = np.concatenate(loaded.heard)
    start = random.Random(song.id).randrange(max(1, len(mix) - seconds * RATE_HZ))
    excerpt = mix[start : start + seconds * RATE_HZ]
    for name, disguise in DISGUISES.items():
      match = index.match(fingerprint.fingerprint(*disguise(excerpt)))
      found[name] += match == song.id
  return {name: count / len(songs) for name, count in found.items()}


if __name__ == "__main__":
  app.run(main)
