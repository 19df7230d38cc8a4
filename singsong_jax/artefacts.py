"""What artefacts in the vocals cost models, on one picture.

  python -m singsong_jax.judge --songs=SONGS --model_dir=CLEAN --separator=repet --noise=0.01 --output_dir=A
  python -m singsong_jax.judge --songs=SONGS --model_dir=NOISY --separator=repet --noise=0.01 --output_dir=B
  python -m singsong_jax.artefacts --judged=Clean=A --judged=Noisy=B --output=ladder.png

A line for each model from isolated vocals to separated and noised ones: chords and beats, 95 % intervals;
dotted is what the model reaches with another song's vocals. All must be judged on the same songs and vocals.
"""

import pathlib

from absl import flags

from singsong_jax import cli
from singsong_jax.evaluation import artefacts
from singsong_jax.evaluation.clips import named_folders

_JUDGED = flags.DEFINE_multi_string("judged", None, "NAME=FOLDER that judge wrote", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "picture (.png) to write", required=True)


def main(_) -> None:
  folders = named_folders(_JUDGED.value, "judged")
  output = pathlib.Path(_OUTPUT.value)
  ladders = {name: artefacts.Ladder.read(pathlib.Path(folder)) for name, folder in folders.items()}
  artefacts.draw(ladders, output)
  print(artefacts.markdown(ladders))
  print(f"wrote {output}")


if __name__ == "__main__":
  cli.run(main)
