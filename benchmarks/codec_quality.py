"""What tokenisers keep of songs and of a voice that none of them was trained on.

    python -m benchmarks.codec_quality --pictures=FOLDER --output=benchmarks/results/codec_quality.json
    python -m benchmarks.codec_quality --codecs=soundstream --codecs=dac:FOLDER --encoders=

Prints the tables of docs/tokenizers.md. Everything is compared at 16 kHz, Opus at 6 kbps among it.
"""

import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import opus, reports, semantic_codes
from benchmarks.codec_audio import HELD_OUT_CORPUS, STEMS, Clip, corpus_songs, spoken_clips, stem_clips
from singsong_jax import cli, files
from singsong_jax.audio.code_usage import code_usage
from singsong_jax.audio.distances import log_mel_distance, si_sdr_db
from singsong_jax.audio.noise import add_noise
from singsong_jax.audio.specs import is_unfitted
from singsong_jax.audio.spectrograms import draw_spectrograms
from singsong_jax.audio.synthesis import Song
from singsong_jax.codecs.base import Codec, codec_or_unfitted
from singsong_jax.inference.reconstruction import bitrate_kbps, levels_label
from singsong_jax.semantics.base import SemanticEncoder, semantic_encoder_or_unfitted
from singsong_jax.tokens.featurization import NOISE_SIGMA

_CODECS = flags.DEFINE_multi_string(
  "codecs", ["soundstream", "mdct"], "What --codec may say; may be repeated."
)
_ENCODERS = flags.DEFINE_multi_string(
  "encoders", ["w2v_bert", "logmel"], "What --semantics may say; may be repeated. Empty: none."
)
_FIT_SONGS = flags.DEFINE_integer(
  "fit_songs", 32, "Songs that classical tokenisers are fitted on, and chords are known of.", lower_bound=1
)
_TEST_SONGS = flags.DEFINE_integer("test_songs", 8, "Other songs, to measure on.", lower_bound=1)
_SECONDS = flags.DEFINE_integer("song_seconds", 10, "Length of each song.", lower_bound=3)
_PICTURES = flags.DEFINE_string("pictures", None, "Folder for spectrograms by number of levels.")

LEVELS = (1, 2, 4, 8, 12)
RATE_HZ = opus.RATE_HZ
SINES_HZ, AMPLITUDES = (110.0, 261.6, 440.0, 1000.0, 2500.0), (0.05, 0.2, 0.5)
FIRST_LEVEL_SHARE, EVERY_LEVEL_SHARE = 0.9, 0.6
_PICTURE_SECONDS = 5

Sets = Mapping[str, Sequence[Clip]]  # 'vocals', 'instrumental', 'mix' and 'voice' → clips


def fit_codec(spec: str, songs: Sequence[Song]) -> Codec:
  codec = codec_or_unfitted(spec)
  if not is_unfitted(codec):
    return codec
  clips = [*stem_clips(songs, "vocals"), *stem_clips(songs, "instrumental")]
  return codec.fit([clip.at(codec.sample_rate_hz) for clip in clips], seed=0)


def fit_encoder(spec: str, songs: Sequence[Song]) -> SemanticEncoder:
  encoder = semantic_encoder_or_unfitted(spec)
  if not is_unfitted(encoder):
    return encoder
  vocals, instrumentals = (
    [clip.at(encoder.sample_rate_hz) for clip in stem_clips(songs, stem)]
    for stem in ("vocals", "instrumental")
  )
  noisy = [add_noise(clip, NOISE_SIGMA["noisy"], seed) for seed, clip in enumerate(vocals)]
  return encoder.fit([*noisy, *instrumentals], seed=0)


def codec_report(codec: Codec, sets: Sets) -> dict[str, Any]:
  """Fidelity by set and number of levels, usage by level, sines, times."""
  counts = [count for count in LEVELS if count <= codec.num_levels]
  codes = {
    name: [codec.encode(clip.at(codec.sample_rate_hz)) for clip in clips] for name, clips in sets.items()
  }
  of_songs = np.concatenate([of_clip for stem in STEMS for of_clip in codes[stem]])
  report = {
    "name": codec.name,
    "fingerprint": codec.fingerprint(),
    "sample_rate_hz": codec.sample_rate_hz,
    "frame_rate_hz": codec.frame_rate_hz,
    "kbps": {count: bitrate_kbps(codec, count) for count in counts},
    "fidelity": {
      name: {count: fidelity(clips, decode(codec, codes[name], count)) for count in counts}
      for name, clips in sets.items()
    },
    "frames": len(of_songs),
    "usage": [level._asdict() for level in code_usage(of_songs, codec.num_codes)],
    "sines": {f"{hz:g}": sine_report(codec, hz) for hz in SINES_HZ},
    **times(codec, sets["mix"][0]),
  }
  return report | {"gates": gates(report)}


def decode(codec: Codec, codes: Sequence[np.ndarray], levels: int) -> list[np.ndarray]:
  """Codes `[frames, num_levels]` of clips to float32 `[samples]` at RATE_HZ."""
  return [Clip(codec.decode(of_clip[:, :levels]), codec.sample_rate_hz).at(RATE_HZ) for of_clip in codes]


def fidelity(clips: Sequence[Clip], decoded: Sequence[np.ndarray]) -> dict[str, float]:
  """Means over clips; the decoded ones `[≥ samples]`."""
  originals = [clip.at(RATE_HZ) for clip in clips]
  pairs = [(original, waveform[: len(original)]) for original, waveform in zip(originals, decoded)]
  return {
    "si_sdr_db": float(np.mean([si_sdr_db(*pair) for pair in pairs])),
    "log_mel_l1": float(np.mean([log_mel_distance(*pair, RATE_HZ) for pair in pairs])),
  }


def gates(report: Mapping[str, Any]) -> dict[str, bool]:
  """What a good codec passes."""
  shares = [level["share"] for level in report["usage"]]
  distances = {
    name: [row["log_mel_l1"] for row in rows.values()] for name, rows in report["fidelity"].items()
  }
  return {
    "level 1 uses 90 % of its codes": shares[0] >= FIRST_LEVEL_SHARE,
    "every level uses 60 % of its codes": min(shares) >= EVERY_LEVEL_SHARE,
    **{f"log-mel L1 of {name} falls": bool(np.all(np.diff(row) < 0)) for name, row in distances.items()},
  }


def sine_report(codec: Codec, hz: float) -> dict[str, list[float]]:
  """Where a sine of each of AMPLITUDES is found after decoding, in Hz, and how much louder it is, in dB."""
  rate_hz = codec.sample_rate_hz
  sine = np.float32(np.sin(2 * np.pi * hz * np.arange(2 * rate_hz) / rate_hz))
  found_hz, errors_db = [], []
  for amplitude in AMPLITUDES:
    decoded = codec.decode(codec.encode(amplitude * sine))[rate_hz // 2 :][:rate_hz]  # bins of 1 Hz
    found_hz.append(int(np.abs(np.fft.rfft(decoded * np.hanning(rate_hz))).argmax()))
    rms = np.sqrt(2 * np.mean(np.square(decoded, dtype=np.float64)))
    errors_db.append(round(float(20 * np.log10(max(rms, 1e-6) / amplitude)), 1))
  return {"found_hz": found_hz, "level_error_db": errors_db}


def times(codec: Codec, clip: Clip) -> dict[str, float]:
  """Seconds of work per second of sound. Both have been called with this length before."""
  waveform = clip.at(codec.sample_rate_hz)
  codes = codec.encode(waveform)
  seconds = len(waveform) / codec.sample_rate_hz
  return {
    "encode_real_time_factor": round(shortest(lambda: codec.encode(waveform)) / seconds, 5),
    "decode_real_time_factor": round(shortest(lambda: codec.decode(codes)) / seconds, 5),
  }


def shortest(call: Callable[[], Any], runs: int = 3) -> float:
  """Seconds."""
  seconds = []
  for _ in range(runs):
    started = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - started)
  return min(seconds)


def opus_report(sets: Sets) -> dict[str, dict[str, float]]:
  """By set: fidelity, and the kbps that were really taken."""
  report = {}
  for name, clips in sets.items():
    decoded, kbps = zip(*(opus.code(clip.at(RATE_HZ)) for clip in clips))
    report[name] = {"kbps": float(np.mean(kbps)), **fidelity(clips, decoded)}
  return report


def draw(folder: pathlib.Path, codecs: Mapping[str, Codec], sets: Sets) -> None:
  """The first clips of 'mix' and 'voice', each as a picture: a column a codec, a row a number of levels."""
  for name in {"mix", "voice"} & sets.keys():
    clip, columns = sets[name][0], {}
    original = clip.at(RATE_HZ)
    for spec, codec in codecs.items():
      codes = [codec.encode(clip.at(codec.sample_rate_hz))]
      columns[spec] = {"original": original} | {
        levels_label(count): decode(codec, codes, count)[0] for count in LEVELS if count <= codec.num_levels
      }
    if opus.is_available():
      decoded, kbps = opus.code(original)
      columns["Opus"] = {"original": original, f"{kbps:.1f} kbps": decoded}
    shown = {
      column: {title: waveform[: _PICTURE_SECONDS * RATE_HZ] for title, waveform in rows.items()}
      for column, rows in columns.items()
    }
    draw_spectrograms(folder / f"{name}.png", shown, RATE_HZ)


def print_report(report: Mapping[str, Any]) -> None:
  """As Markdown."""
  sets = report["sets"]
  headings = ["codec", "levels", "kbps"]
  for name in sets:
    headings += [f"{name}: SI-SDR, dB", "log-mel L1"]
  print("\nMeans over clips:\n")
  reports.print_table(headings, fidelity_rows(report, list(sets)))
  for spec, codec in report["codecs"].items():
    print(f"\n{spec}: codes in use of {codec['frames']} frames of {', '.join(STEMS)}\n")
    usage = enumerate(codec["usage"], start=1)
    rows = ([str(i), f"{level['share']:.0%}", f"{level['perplexity']:.0f}"] for i, level in usage)
    reports.print_table(["level", "in use", "perplexity"], rows)
    for gate, passed in codec["gates"].items():
      print(f"{'passed' if passed else 'MISSED'}: {gate}")
    print(f"\n{spec}: sines at amplitudes {AMPLITUDES}\n")
    sines = ([hz, str(row["found_hz"]), str(row["level_error_db"])] for hz, row in codec["sines"].items())
    reports.print_table(["Hz", "found at", "level error, dB"], sines)
  print("\nSeconds of work for a second of sound:\n")
  speeds = (
    [spec, f"{codec['encode_real_time_factor']:.4f}", f"{codec['decode_real_time_factor']:.4f}"]
    for spec, codec in report["codecs"].items()
  )
  reports.print_table(["codec", "encode", "decode"], speeds)
  if report["encoders"]:
    print("\nSemantic codes:\n")
    rows = (
      [spec, f"{row['share']:.0%}", f"{row['entropy_nats']:.2f}", f"{row['chord_accuracy']:.0%}"]
      for spec, row in report["encoders"].items()
    )
    reports.print_table(["encoder", "in use", "entropy, nats", "chord right"], rows)


def fidelity_rows(report: Mapping[str, Any], sets: Sequence[str]) -> list[list[str]]:
  """Cells of a table: each codec with each number of levels, then Opus."""
  cells = lambda row: [f"{row['si_sdr_db']:.1f}", f"{row['log_mel_l1']:.2f}"]
  table = []
  for spec, codec in report["codecs"].items():
    for count, kbps in codec["kbps"].items():
      measured = [cell for name in sets for cell in cells(codec["fidelity"][name][count])]
      table.append([spec, str(count), f"{kbps:g}", *measured])
  if found := report["opus"]:
    taken = sorted(row["kbps"] for row in found.values())
    measured = [cell for name in sets for cell in cells(found[name])]
    table.append(["Opus", "", f"{taken[0]:.1f} … {taken[-1]:.1f}", *measured])
  return table


def main(_) -> None:
  if _PICTURES.value:
    files.make_folder(_PICTURES.value)
  known = corpus_songs(0, _FIT_SONGS.value, _SECONDS.value)
  test = corpus_songs(HELD_OUT_CORPUS, _TEST_SONGS.value, _SECONDS.value)
  codecs = {spec: fit_codec(spec, known) for spec in _CODECS.value}
  encoders = {spec: fit_encoder(spec, known) for spec in _ENCODERS.value if spec}
  sets = {stem: stem_clips(test, stem) for stem in STEMS}
  if spoken := spoken_clips():
    sets["voice"] = spoken
  else:
    progress("no set 'voice': espeak-ng is not installed (Debian's package espeak-ng)")
  if not opus.is_available():
    progress("no Opus: this libsndfile is built without it")
  report: dict[str, Any] = {
    "machine": reports.describe_machine(),
    "held_out_corpus": HELD_OUT_CORPUS,
    "sets": {name: {"clips": len(clips)} for name, clips in sets.items()},
    "codecs": {},
    "opus": opus_report(sets) if opus.is_available() else None,
    "encoders": {},
  }
  for spec, codec in codecs.items():
    progress(f"measuring the codec {spec}")
    report["codecs"][spec] = codec_report(codec, sets)
  for spec, encoder in encoders.items():
    progress(f"measuring the encoder {spec}")
    report["encoders"][spec] = semantic_codes.report(encoder, known, test)
  print_report(report)
  if _PICTURES.value:
    draw(pathlib.Path(_PICTURES.value), codecs, sets)
  if reports.OUTPUT.value:
    files.write_json(reports.OUTPUT.value, report)


def progress(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
  cli.run(main)
