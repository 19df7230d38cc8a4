"""Makes a small folder of a trained model, to be played with and handed on.

  python -m singsong_jax.export_model --model_dir=MODEL --output_dir=EXPORTED

Takes the parameters of the newest checkpoint, or of --step, in half precision, with the tokenisers they were
trained with. `infer`, `judge` and fine-tuning take the folder as they take MODEL. A fine stage is exported by
itself, to EXPORTED/fine. --temperature and the other options of sampling are kept as what the model is best
played with; commands that are not told otherwise take them.
"""

import dataclasses
import pathlib

from absl import flags

from singsong_jax import cli, files
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference.models import SAMPLING_FILE
from singsong_jax.inference.sampling_flags import chosen_options
from singsong_jax.inference.tokenizers import FOLDER, ship_tokenizers
from singsong_jax.systems import system_from_description
from singsong_jax.training.checkpoints import load_checkpoint
from singsong_jax.training.exported import write_exported

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "folder a training run wrote", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder to write", required=True)
_STEP = flags.DEFINE_integer("step", None, "checkpoint; default: the newest")


def main(_) -> None:
  output, options = pathlib.Path(_OUTPUT_DIR.value), chosen_options(SamplingOptions())
  if (output / "checkpoints").exists():
    raise InputError(f"--output_dir={output} has checkpoints of training: an exported model would hide them")
  system, params, step = load_checkpoint(_MODEL_DIR.value, _STEP.value, system_from_description)
  ship_tokenizers(pathlib.Path(_MODEL_DIR.value) / FOLDER, output)
  path = write_exported(output, system, params, step)
  files.write_json(output / SAMPLING_FILE, dataclasses.asdict(options))
  size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
  print(f"{path}: step {step}; the folder has {size / 1e6:.1f} MB")


if __name__ == "__main__":
  cli.run(main)
