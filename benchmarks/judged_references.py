"""Floors, baselines and the ceiling of `singsong_jax.judge`, without a model.

python -m benchmarks.judged_references --output=benchmarks/results/judged_references.json
"""

import pathlib
import tempfile

from absl import flags

from benchmarks import reports
from singsong_jax import cli, files
from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.evaluation.judgement import Judge, means
from singsong_jax.evaluation.making import Maker
from singsong_jax.evaluation.musical import METRICS
from singsong_jax.evaluation.retrieval import Library, Librosa
from singsong_jax.evaluation.songs import find_songs

SONGS = flags.DEFINE_integer("judged_songs", 96, "songs of 10 s, and as many of 25 s to retrieve from")
SECONDS, _LIBRARY_SECONDS, _SEED, _LIBRARY_SEED = 10.0, 25.0, 900, 901  # those of docs/evaluation.md


def write_songs(root: pathlib.Path) -> None:
  """Songs to judge on in `root/songs`, and others, longer ones, in `root/library`."""
  for name, seconds, seed in (("songs", SECONDS, _SEED), ("library", _LIBRARY_SECONDS, _LIBRARY_SEED)):
    settings = CorpusSettings(num_songs=SONGS.value, song_seconds=seconds, seed=seed)
    write_corpus(root / name, settings, show_progress=True)


def main(_) -> None:
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    write_songs(root)
    judge = Judge(songs=find_songs(root / "songs"), maker=Maker(folder=root / "made"))
    library = Library(find_songs(root / "library"), Librosa(), SECONDS)
    rows = means(judge.references() | judge.baselines(library, Librosa()))
  table = [(name, *(f"{scores[metric]:.3f}" for metric in METRICS)) for name, scores in rows.items()]
  reports.print_table(("", *METRICS), table)
  if reports.OUTPUT.value:
    files.write_json(
      reports.OUTPUT.value, {"machine": reports.describe_machine(), "songs": SONGS.value, "rows": rows}
    )


if __name__ == "__main__":
  cli.run(main)
