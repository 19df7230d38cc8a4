"""Does a model know its training data by heart? (SingSong §6)

  python -m singsong_jax.memorization --model_dir=MODEL --data_dir=DATA --output_dir=OUT

Prompts the decoder with the first k semantic codes of training clips, for the paper's k of 0, 25, 50, 125 and
225, and counts how many continuations are the truth's, code for code. Writes `memorization.json` and `.md`;
what was decoded is kept in OUT/batches, and a command that was killed goes on.
"""

import dataclasses
import pathlib

import gin
import tqdm
from absl import flags

from singsong_jax import cli, files
from singsong_jax.evaluation import memorization
from singsong_jax.inference.models import load_models

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "folder a training run wrote", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "what it was trained on", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "validation, say, tells what is not memory")
_MAX_CLIPS = flags.DEFINE_integer("max_clips", 8_000, "the paper has 8000", lower_bound=2)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "clips at once", lower_bound=1)


def main(_) -> None:
  models = load_models(_MODEL_DIR.value, skip_fine=True)
  system, size = models.coarse.system, _BATCH_SIZE.value
  memorization.semantic_stage(system)  # refuses before the data are read
  gin.parse_config("import tasks.datasets\nimport tasks.singsong")  # the library knows neither
  examples = gin.get_configurable("SingSongExamples")(
    vocals=system.vocals,
    features=system.features,
    vocabulary=system.vocabulary,
    geometry=system.geometry,
  )
  batches = gin.get_configurable("tasks.datasets.eval_batches")(
    data_dir=_DATA_DIR.value, examples=examples, batch_size=size, split=_SPLIT.value
  )
  output = files.make_folder(_OUTPUT_DIR.value)
  run = {
    **models.coarse.describe(),
    "data": str(pathlib.Path(_DATA_DIR.value).absolute()),
    "split": _SPLIT.value,
    "max_clips": _MAX_CLIPS.value,
    "batch_size": size,
  }
  files.claim(output, run)
  most = -(-_MAX_CLIPS.value // size)
  rows = memorization.analyse(
    system,
    models.coarse.params,
    tqdm.tqdm(batches, desc=f"batches of {size} clips", unit="batch", total=most),
    max_clips=_MAX_CLIPS.value,
    folder=output / "batches",
  )
  files.write_json(output / "memorization.json", {**run, "rows": [*map(dataclasses.asdict, rows)]})
  text = memorization.as_markdown(rows)
  files.write_text(output / "memorization.md", text)
  print(text)
  for name in ("memorization.json", "memorization.md"):
    print(f"wrote {output / name}")


if __name__ == "__main__":
  cli.run(main)
