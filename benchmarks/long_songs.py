"""Measures inference on long songs: length, seams, memory, speed, start of a second process.

python -m benchmarks.long_songs

Sings 35 s, 1 and 10 minutes with the demo songs' voice, runs `singsong_jax.infer` on each in a process of its
own, and prints one JSON object.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks import reports
from singsong_jax import files
from singsong_jax.audio.io import audio_info, read_audio, write_wav
from singsong_jax.audio.synthesis import synthesize_song

RATE_HZ = 44_100
FRAME_SECONDS = 0.02  # of the codec; between frames is where a seam can be
NEAR_SECONDS = 0.001
ROOT = pathlib.Path(__file__).parent.parent

_MODEL = flags.DEFINE_string("model", "demo/model", "folder a training run wrote")
_VOICE = flags.DEFINE_string("voice", None, "a voice of 35 s or so, instead of a synthetic one")
_LENGTHS = flags.DEFINE_list("lengths", ["60", "600"], "seconds of input to compare the memory of")


def edge_statistics(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """How the sound changes at each edge between two codec frames.

  Args:
    waveform: mono, `[samples]`.

  Returns:
    `[frames - 1, 2]`; row i is of the edge at `FRAME_SECONDS · (i + 1)`. The largest bend (second difference
    of the samples) within `NEAR_SECONDS`, and the change of level from the frame before to the one after in
    dB.
  """
  frame, near = round(FRAME_SECONDS * sample_rate_hz), round(NEAR_SECONDS * sample_rate_hz)
  bends = np.abs(np.diff(waveform, 2, prepend=0.0, append=0.0))  # bends[i]: at sample i
  edges = range(frame, len(waveform) - frame, frame)
  levels_db = [
    10 * np.log10(np.mean(waveform[t - frame : t + frame].reshape(2, -1) ** 2, axis=1) + 1e-9) for t in edges
  ]
  return np.array(
    [(bends[t - near : t + near].max(), abs(after - before)) for t, (before, after) in zip(edges, levels_db)]
  )


def percentiles(values: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Where each value stands among the others: in 0 … 100, 50 on average for chance."""
  return 100 * np.searchsorted(np.sort(others), values) / len(others)


def seam_report(path: pathlib.Path, details: dict) -> dict:
  """What can be measured of the places where windows, and chunks of the fine stage, meet."""
  waveform, rate_hz = read_audio(path)
  edges = edge_statistics(waveform[0], rate_hz)
  window_seconds = details["model"]["system"]["geometry"]["window_seconds"]
  hop_seconds = window_seconds - details["overlap_seconds"]
  at = {"window": at_edges(window_seconds, hop_seconds, len(edges))}
  if details["fine_model"]:
    chunk_seconds = details["fine_model"]["system"]["layout"]["chunk_seconds"]
    at["chunk"] = at_edges(chunk_seconds, chunk_seconds, len(edges)) & ~at["window"]
  interior = ~np.any([*at.values()], axis=0)
  report: dict = {}
  for kind, seams in at.items():
    report[f"{kind}_seams"] = int(seams.sum())
    for name, values in zip(("bend", "level_change"), edges.T):
      found = percentiles(values[seams], values[interior])
      report[f"{kind}_{name}_percentile_median"] = round(float(np.median(found)), 1)
      report[f"{kind}_{name}_percent_above_95th"] = round(100 * float(np.mean(found > 95)), 1)
  return report


def at_edges(first_seconds: float, hop_seconds: float, num_edges: int) -> np.ndarray:
  """Which edges are at `first_seconds + i · hop_seconds`: bool `[num_edges]`."""
  first, hop = round(first_seconds / FRAME_SECONDS), round(hop_seconds / FRAME_SECONDS)
  frames = np.arange(1, num_edges + 1)
  return (frames >= first) & ((frames - first) % hop == 0)


def infer(vocals: pathlib.Path, output_dir: pathlib.Path, cache: pathlib.Path) -> tuple[dict, float, float]:
  """Runs the command. Returns its JSON, its seconds and its peak memory in MiB."""
  command = [sys.executable, "-m", "singsong_jax.infer", f"--vocals={vocals}", f"--output_dir={output_dir}"]
  command.append(f"--model_dir={pathlib.Path(_MODEL.value).absolute()}")
  environment = {**os.environ, "SINGSONG_CACHE_DIR": str(cache)}
  started, peak_mib = time.perf_counter(), 0.0
  process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
  while process.poll() is None:
    peak_mib = max(peak_mib, peak_memory_mib(process.pid))
    time.sleep(0.02)
  if process.returncode:
    sys.exit(f"{command} failed")
  seconds = time.perf_counter() - started
  details = json.loads((output_dir / "accompaniment.json").read_text())
  return details, round(seconds, 1), round(peak_mib, 1)


def peak_memory_mib(pid: int) -> float:
  """Of a running process, so far (Linux). `wait4` would count what its parent held before `exec`."""
  try:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
  except OSError:  # it has just ended
    return 0.0
  found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
  return int(found[1]) / 1024 if found else 0.0


def sing(folder: pathlib.Path, seconds: float) -> pathlib.Path:
  path = folder / f"voice_{seconds:g}.wav"
  write_wav(path, synthesize_song(1000, seconds, RATE_HZ).vocals, RATE_HZ)
  return path


def length_report(vocals: pathlib.Path, output_dir: pathlib.Path) -> dict:
  names = {"vocals": vocals, "instrumental": output_dir / "instrumental.wav", "mix": output_dir / "mix.wav"}
  return {name: len(read_audio(path)[0][0]) for name, path in names.items()}


def main(_) -> None:
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    vocals = pathlib.Path(_VOICE.value).absolute() if _VOICE.value else sing(folder, 35)
    _, first_seconds, _ = infer(vocals, folder / "first", folder / "cache")
    _, second_seconds, _ = infer(vocals, folder / "second", folder / "cache")
    report = {
      "seconds": round(audio_info(vocals).seconds, 3),
      "samples": length_report(vocals, folder / "second"),
      "first_process_seconds": first_seconds,
      "second_process_seconds": second_seconds,
      "machine": reports.describe_machine(),
      "long": {},
    }
    for seconds in map(float, _LENGTHS.value):
      output_dir = folder / f"{seconds:g}"
      details, wall_seconds, peak_mib = infer(sing(folder, seconds), output_dir, folder / "cache")
      report["long"][f"{seconds:g}"] = {
        "peak_memory_mib": peak_mib,
        "process_seconds": wall_seconds,
        "real_time_factors": {k: stage["real_time_factor"] for k, stage in details["stages"].items()},
        **seam_report(output_dir / "instrumental.wav", details),
      }
  print(json.dumps(report, indent=2))
  if reports.OUTPUT.value:
    files.write_json(reports.OUTPUT.value, report)


if __name__ == "__main__":
  app.run(main)
