"""How far are accompaniments from real music? Fréchet and kernel distances of mixes, likelihoods (SingSong
§4.3, A).

What a model plays for songs whose stems are known, from their isolated vocals (FADi, NLLi) and from what a
separator finds in their mixes (FADs, NLLs), with the same seeds:

  python -m singsong_jax.evaluate --songs=SONGS --model_dir=MODEL --output_dir=OUT \\
    --separator=mdx:vocals.onnx --embedding=vggish:vggish-10086976.pth

Or instrumentals that are there already:

  python -m singsong_jax.evaluate --references=MIXES --vocals=VOCALS --output_dir=OUT \\
    --instrumentals=isolated=MADE_FROM_ISOLATED --instrumentals=separated=MADE_FROM_SEPARATED

Every instrumental is mixed with the isolated vocals of the same name as they are. Writes `results.json`,
`results.csv` and `results.png`; what was generated is kept in OUT/instrumentals, and a command that was
killed goes on. A gin file can say what flags do not, as `evaluate.songs = 'SONGS'`; flags win.
"""

import pathlib
from typing import Any

import gin
from absl import flags

from singsong_jax import cli
from singsong_jax.evaluation.clips import named_folders
from singsong_jax.evaluation.comparison import evaluate
from singsong_jax.inference import sampling_flags

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_INSTRUMENTALS = flags.DEFINE_multi_string(
  "instrumentals", [], "NAME=FOLDER: instrumentals named like the vocals, or what infer wrote"
)
_FLAGS = (
  flags.DEFINE_string("songs", None, "folder of NAME/vocals.wav and NAME/instrumental.wav"),
  flags.DEFINE_string("model_dir", None, "accompanies --songs (default: what comes with the package)"),
  flags.DEFINE_integer("step", None, "its checkpoint (default: the newest)"),
  flags.DEFINE_string("separator", None, "of the separated vocals; docs/data.md (default: repet)"),
  flags.DEFINE_string("references", None, "folder of real mixes"),
  flags.DEFINE_string("vocals", None, "folder of isolated vocals: NAME.wav, or NAME/vocals.wav"),
  flags.DEFINE_string("embedding", None, "logmel, vggish:FILE, …; docs/evaluation.md (default: logmel)"),
  flags.DEFINE_integer("seed", None, "of the model, the intervals and the floor (default: 0)", lower_bound=0),
)


def main(_) -> None:
  given = {flag.name: flag.value for flag in _FLAGS if flag.value is not None}
  if _INSTRUMENTALS.value:
    given["instrumentals"] = named_folders(_INSTRUMENTALS.value)
  if sampling := sampling_flags.given_options():
    given["sampling"] = {**_bound("evaluate.sampling"), **sampling}
  table = evaluate(output_dir=_OUTPUT_DIR.value, **given)
  print(table.summary())
  for path in table.write(pathlib.Path(_OUTPUT_DIR.value)):
    print(f"wrote {path}")


def _bound(parameter: str) -> dict[str, Any]:
  """What gin files say of it."""
  try:
    return gin.query_parameter(parameter)
  except ValueError:
    return {}


if __name__ == "__main__":
  cli.run(main, uses_gin=True)
