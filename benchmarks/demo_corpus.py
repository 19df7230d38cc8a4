"""Measures the demo songs and the classical separator on them.

python -m benchmarks.demo_corpus
"""

import itertools

import librosa
import numpy as np
from absl import app

from singsong_jax.audio.filtering import FilterSettings, rejection_reason
from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.separation.base import Clip
from singsong_jax.audio.separation.repet import RepetSeparator
from singsong_jax.audio.synthesis import synthesize_song

NUM_SONGS, SECONDS, RATE_HZ = 12, 10.0, 44_100
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
TRIADS = {
  f"{PITCHES[root]}:{mode}": [root, (root + third) % 12, (root + 7) % 12]
  for root, (mode, third) in itertools.product(range(12), (("maj", 4), ("min", 3)))
}


def beat_chroma(song) -> np.ndarray:
  """Median magnitude per pitch class between beats, 60 … 2100 Hz: `[beats - 1, 12]`."""
  magnitude = np.abs(librosa.stft(song.instrumental, n_fft=8192, hop_length=1024))
  hz = librosa.fft_frequencies(sr=RATE_HZ, n_fft=8192)
  magnitude[(hz < 60) | (hz > 2100)] = 0
  chroma = librosa.feature.chroma_stft(S=magnitude, sr=RATE_HZ, n_fft=8192, norm=None, tuning=0)
  edges = librosa.time_to_frames(song.annotation["beats_seconds"], sr=RATE_HZ, hop_length=1024)
  return np.stack([np.median(chroma[:, a : max(b, a + 1)], axis=1) for a, b in itertools.pairwise(edges)])


def chord_scores(song) -> list[tuple[bool, float]]:
  """Per beat: whether the best-matching triad is the true one, and the true triad's share of the chroma."""
  templates = np.array([np.isin(np.arange(12), tones) for tones in TRIADS.values()]) - 0.25
  scores = []
  for chroma, chord in zip(beat_chroma(song), song.annotation["chords"]):
    best = list(TRIADS)[int(np.argmax(templates @ chroma))]
    scores.append((best == chord, chroma[TRIADS[chord]].sum() / chroma.sum()))
  return scores


def sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
  return 10 * np.log10(np.sum(reference**2) / np.sum((reference - estimate) ** 2))


def main(_) -> None:
  songs = [synthesize_song(seed, SECONDS, RATE_HZ) for seed in range(NUM_SONGS)]
  levels = np.array([[peak_rms_db(stem, RATE_HZ) for stem in (s.vocals, s.instrumental)] for s in songs])
  excess = levels[:, 0] - levels[:, 1]
  kept = [rejection_reason(s.vocals, s.instrumental, RATE_HZ, FilterSettings()) is None for s in songs]
  scores = np.array([score for song in songs for score in chord_scores(song)])
  sung = [sum(note["duration_seconds"] for note in song.annotation["notes"]) / SECONDS for song in songs]
  print("peak RMS of vocals, instrumental, dB:", levels.mean(axis=0).round(1))
  print(
    f"vocals − instrumental, dB: {excess.min():.1f} … {excess.max():.1f}; kept {sum(kept)} of {len(kept)}"
  )
  print(f"chord right {scores[:, 0].mean():.3f} of {len(scores)} beats, share {scores[:, 1].mean():.2f}")
  print(f"notes fill {np.mean(sung):.2f} of the time")
  clips = [Clip(mix=song.mix, sample_rate_hz=RATE_HZ, song="", offset_seconds=0.0) for song in songs]
  vocals = RepetSeparator().separate(clips)
  for name, estimates in (("mix itself", [song.mix for song in songs]), ("repet", vocals)):
    of_vocals = np.mean([sdr_db(s.vocals, e) for s, e in zip(songs, estimates)])
    rest = [song.mix - e if name == "repet" else song.mix for song, e in zip(songs, estimates)]
    of_instrumental = np.mean([sdr_db(s.instrumental, r) for s, r in zip(songs, rest)])
    print(f"{name}: SDR of vocals {of_vocals:.1f} dB, of the instrumental {of_instrumental:.1f} dB")


if __name__ == "__main__":
  app.run(main)
