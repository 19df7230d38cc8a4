"""What the two classical tokenizers keep of songs they were not fitted on.

    python -m benchmarks.codec_quality --picture=codec.png

About a minute on 2 cores; prints the tables of docs/tokenizers.md.
"""

import collections
import time

import librosa
import matplotlib
import numpy as np
from absl import app, flags

from singsong_jax.audio import io, noise, synthesis
from singsong_jax.codecs import mdct
from singsong_jax.semantics import logmel
from singsong_jax.tokens.featurization import NOISE_SIGMA

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FIT_SONGS = flags.DEFINE_integer("fit_songs", 32, "Synthesised songs both tokenizers are fitted on.")
TEST_SONGS = flags.DEFINE_integer("test_songs", 4, "Other songs, to measure on.")
SECONDS = flags.DEFINE_integer("seconds", 10, "Length of each song.")
PICTURE = flags.DEFINE_string("picture", None, "Where to draw spectrograms of original and decodings.")

RATE_HZ = mdct.MdctSettings().sample_rate_hz
LEVELS = (1, 2, 4, 8, 12)


def make_songs(seeds: range) -> tuple[np.ndarray, list[dict]]:
  """Vocals and instrumentals float32 `[songs, 2, samples]`, and the songs' annotations."""
  songs = [synthesis.synthesize_song(seed, SECONDS.value, sample_rate_hz=44_100) for seed in seeds]
  stems = np.stack([[song.vocals, song.instrumental] for song in songs])
  return io.resample(stems, 44_100, RATE_HZ), [song.annotation for song in songs]


def timed(what: str, function, *args):
  start = time.perf_counter()
  result = function(*args)
  print(f"{what}: {time.perf_counter() - start:.3f} s")
  return result


def log_mel_db(waveform: np.ndarray) -> np.ndarray:
  power = librosa.feature.melspectrogram(y=waveform, sr=RATE_HZ, n_fft=1024, hop_length=256, n_mels=64)
  return 10 * np.log10(np.maximum(power / 1024, 1e-6))


def entropy_nats(codes: np.ndarray, num_codes: int) -> float:
  shares = np.bincount(codes.ravel(), minlength=num_codes) / codes.size
  return float(-np.sum(shares * np.log(np.maximum(shares, 1e-12))))


def report_codec(codec: mdct.MdctCodec, clips: np.ndarray) -> np.ndarray:
  """Prints quality and entropy by number of levels; returns the codes of `clips` `[clips, samples]`."""
  codes = codec.encode(clips)
  print("levels  SNR dB  log-mel L1 dB  entropy of the last level, nats  codes in use")
  for levels in LEVELS:
    decoded = codec.decode(codes[..., :levels])
    snr_db = 10 * np.log10(np.sum(clips**2) / np.sum((decoded - clips) ** 2))
    distance_db = np.abs(log_mel_db(decoded) - log_mel_db(clips)).mean()
    last = codes[..., levels - 1]
    entropy, used = entropy_nats(last, codec.num_codes), len(np.unique(last))
    print(f"{levels:6d} {snr_db:7.1f} {distance_db:14.2f} {entropy:32.2f} {used:13d}")
  return codes


def report_sines(codec: mdct.MdctCodec) -> None:
  print("sine Hz   decoded Hz   level error, dB, at amplitude .05, .2, .5")
  times = np.arange(2 * RATE_HZ) / RATE_HZ
  for hz in (110.0, 261.6, 440.0, 1000.0, 2500.0):
    sines = np.array([[0.05], [0.2], [0.5]]) * np.sin(2 * np.pi * hz * times)
    decoded = codec.decode(codec.encode(sines))[:, RATE_HZ // 2 : -RATE_HZ // 2]  # bins of 1 Hz
    peaks = np.abs(np.fft.rfft(decoded * np.hanning(RATE_HZ))).argmax(axis=-1)
    errors_db = 20 * np.log10(np.sqrt(2 * np.mean(decoded**2, axis=-1)) / [0.05, 0.2, 0.5])
    print(f"{hz:7.1f}   {peaks}   {np.round(errors_db, 1)}")


def chord_labels(annotation: dict, frames: int, frame_rate_hz: float) -> list[str]:
  """The chord at each frame's centre."""
  centres = (np.arange(frames) + 0.5) / frame_rate_hz
  beats = np.searchsorted(annotation["beats_seconds"], centres) - 1
  return [annotation["chords"][beat] for beat in np.clip(beats, 0, len(annotation["chords"]) - 1)]


def codes_and_chords(encoder: logmel.LogMelEncoder, songs: tuple) -> list[tuple[int, str]]:
  """(semantic code of the instrumental, true chord) of every frame."""
  pairs = []
  for stems, annotation in zip(*songs):
    codes = encoder.encode(stems[1])
    pairs += zip(codes.tolist(), chord_labels(annotation, len(codes), encoder.frame_rate_hz))
  return pairs


def report_chords(encoder: logmel.LogMelEncoder, fit: tuple, test: tuple) -> None:
  """How often the chord a code mostly stood for in the fitted songs is right in the test songs."""
  seen = collections.defaultdict(collections.Counter)
  for code, chord in codes_and_chords(encoder, fit):
    seen[code][chord] += 1
  usual = {code: chords.most_common(1)[0][0] for code, chords in seen.items()}
  right = [usual.get(code) == chord for code, chord in codes_and_chords(encoder, test)]
  print(f"chord named by the semantic code of the instrumental: {np.mean(right):.2f} of frames right")


def draw(codec: mdct.MdctCodec, clips: np.ndarray, codes: np.ndarray, path: str) -> None:
  """Columns: vocals, instrumental of the first test song; rows: original, then 1, 4, 12 levels."""
  figure, axes = plt.subplots(4, 2, figsize=(16, 14), layout="constrained")
  for column, name in enumerate(("vocals", "instrumental")):
    rows = {f"{levels} levels": codec.decode(codes[column, :, :levels]) for levels in (1, 4, 12)}
    for axis, (title, waveform) in zip(axes[:, column], {"original": clips[column], **rows}.items()):
      power_db = librosa.amplitude_to_db(np.abs(librosa.stft(waveform, n_fft=1024)), amin=1e-3)
      extent = (0, len(waveform) / RATE_HZ, 0, RATE_HZ / 2)
      axis.imshow(power_db, origin="lower", aspect="auto", vmin=-40, vmax=40, extent=extent)
      axis.set(title=f"{name}, {title}", xlabel="seconds", ylabel="Hz", xlim=(0, 5))
  figure.savefig(path, dpi=70)


def main(_) -> None:
  fit, test = make_songs(range(FIT_SONGS.value)), make_songs(range(10_000, 10_000 + TEST_SONGS.value))
  fit_clips, test_clips = (stems.reshape(-1, stems.shape[-1]) for stems, _ in (fit, test))
  codec = timed("codec fit", mdct.fit_mdct_codec, fit_clips)
  codes = report_codec(codec, test_clips)
  timed("codec encode, one clip", codec.encode, test_clips[0])
  report_sines(codec)
  noisy = [noise.add_noise(clip, NOISE_SIGMA["noisy"], seed) for seed, clip in enumerate(fit[0][:, 0])]
  encoder = timed("semantics fit", logmel.fit_logmel_encoder, [*noisy, *fit[0][:, 1]])
  timed("semantics encode, one clip", encoder.encode, test_clips[0])
  semantic = encoder.encode(test_clips)
  print(f"semantic entropy: {entropy_nats(semantic, encoder.num_codes):.2f} nats,", end=" ")
  print(f"{len(np.unique(semantic))} codes in use, of {semantic.size} frames")
  report_chords(encoder, fit, test)
  if PICTURE.value:
    draw(codec, test_clips, codes, PICTURE.value)


if __name__ == "__main__":
  app.run(main)
