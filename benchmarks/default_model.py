"""Every number and picture of the README's results: the package's model on songs it never heard.

python -m benchmarks.default_model --output=benchmarks/results/default_model.json

Synthesises 96 songs and a library, judges the model with the command that users have (`singsong_jax.judge`),
measures what its codes leave of the truth, and writes the JSON, `docs/default_model.png` and the README's
table. Everything is kept in --work_dir: the same command goes on where a killed one was.
"""

import pathlib
import subprocess
import sys
import time

import numpy as np
from absl import flags
from tqdm import tqdm

from benchmarks import judged_references, reports
from singsong_jax import cli, files
from singsong_jax.audio.resampling import resample
from singsong_jax.evaluation import likelihood, vocal_use
from singsong_jax.evaluation.judgement import means
from singsong_jax.evaluation.making import Maker
from singsong_jax.evaluation.musical import RATE_HZ, measure
from singsong_jax.evaluation.songs import Song, find_songs
from singsong_jax.inference.models import DEFAULT_MODEL, Models, load_models

_WORK_DIR = flags.DEFINE_string("work_dir", "demo/default_model", "where everything made is kept")
_MODEL_DIR = flags.DEFINE_string("model_dir", str(DEFAULT_MODEL), "another model in its place")
_README = flags.DEFINE_string("readme", "README.md", "whose table is written; empty: none")
_PICTURE = flags.DEFINE_string("picture", "docs/default_model.png", "is written")
_NOISES = (0.03, 0.1)
_BEGIN, _END = "<!-- benchmarks.default_model -->\n", "<!-- end -->\n"
_TRUE_CODES = "true codes"
_GOALS = {"chord_24": 0.30, "beat_f": 0.60}
# What the README shows, and how it calls it.
_SHOWN = {
  "white noise": "white noise",
  "Random": "Random (§5.1)",
  "Retrieval": "Retrieval (§5.1)",
  "Retrieval, oracle key and tempo": "Retrieval, told key and tempo",
  "vocals themselves": "the vocals themselves",
  "model, shuffled": "the model, given another song's vocals",
  "model, right": "**the model**",
  "model, separated (repet)": "the model, given vocals that REPET separated",
  _TRUE_CODES: "ceiling: the true accompaniment's own codes",
  "true accompaniment": "ceiling: the true accompaniment",
}


def main(_) -> None:
  started = time.monotonic()
  root = files.make_folder(_WORK_DIR.value)
  judged_references.write_songs(root)
  status = _judge(root)
  judged = files.read_json(root / "judged" / "results.json")
  rows = judged["rows"] | means({_TRUE_CODES: _ceiling(find_songs(root / "songs"), root / "ceiling")})
  gate = judged["comparisons"]
  found = {
    "machine": reports.describe_machine(),
    "minutes_of_this_call": round((time.monotonic() - started) / 60, 1),
    "songs": judged_references.SONGS.value,
    "run": judged["run"],
    "rows": rows,
    "intervals": judged["intervals"],
    "comparisons": gate,
    "goals": {name: [goal, rows["model, right"][name] >= goal] for name, goal in _GOALS.items()},
  }
  text = _table(rows, gate, judged["passes"])
  print(text)
  if reports.OUTPUT.value:
    found["run"] = {name: value for name, value in found["run"].items() if name not in ("songs", "library")}
    files.write_json(reports.OUTPUT.value, found)
  pathlib.Path(_PICTURE.value).write_bytes((root / "judged" / "results.png").read_bytes())
  if _README.value:
    _insert(pathlib.Path(_README.value), text)
  if status:
    sys.exit("the model fails the vocal-use gate")


def _judge(root: pathlib.Path) -> int:
  (root / "judged" / "results.json").unlink(missing_ok=True)  # of an earlier call: this one may break
  command = [sys.executable, "-m", "singsong_jax.judge", f"--model_dir={_MODEL_DIR.value}"]
  command += [f"--songs={root / 'songs'}", f"--library={root / 'library'}", f"--output_dir={root / 'judged'}"]
  command += ["--separator=repet", *(f"--noise={sigma:g}" for sigma in _NOISES)]
  status = subprocess.run(command).returncode
  if status not in (0, 1) or not (root / "judged" / "results.json").exists():  # 1: it was measured, and fails
    sys.exit(status)
  return status


def _ceiling(songs: list[Song], folder: pathlib.Path) -> list[dict[str, float]]:
  """What the true accompaniments' own codes leave of them."""
  models, maker = load_models(_MODEL_DIR.value, skip_fine=True), Maker(folder=folder)
  return [
    measure(maker.kept(_TRUE_CODES, song, RATE_HZ, lambda song=song: _heard(models, song)), song.truth())
    for song in tqdm(songs, desc=_TRUE_CODES, unit="song")
  ]


def _heard(models: Models, song: Song) -> np.ndarray:
  vocals, rate_hz = song.read_vocals()
  rows = likelihood.encode(models, vocals, song.read_instrumental(rate_hz), rate_hz)
  if rows is None:
    sys.exit(f"{song.name} is shorter than the model's window")
  windows = models.coarse.system.target_layout.decode_heard(rows["decoder_target_tokens"])
  sound = np.concatenate([np.asarray(models.codec.decode(codes), np.float32) for codes in windows])
  return resample(sound, models.codec.sample_rate_hz, RATE_HZ)


def _table(rows: dict, gate: list[dict], passes: bool) -> str:
  lines = ["| | chords right | beats (F) |", "|---|---:|---:|"]
  for name, title in _SHOWN.items():
    if name in rows:
      lines.append(f"| {title} | {rows[name]['chord_24']:.2f} | {rows[name]['beat_f']:.2f} |")
  held = sum(comparison["p"] < vocal_use.LEVEL for comparison in gate)
  word = "passes" if passes else "does not pass"
  lines += ["", f"It {word} the vocal-use gate: {held} of {len(gate)} comparisons hold at p < 0.001."]
  return "\n".join(lines) + "\n"


def _insert(readme: pathlib.Path, text: str) -> None:
  before, _, rest = readme.read_text().partition(_BEGIN)
  _, _, after = rest.partition(_END)
  if not rest:
    sys.exit(f"{readme} has no line {_BEGIN.strip()}")
  files.write_text(readme, before + _BEGIN + text + _END + after)


if __name__ == "__main__":
  cli.run(main)
