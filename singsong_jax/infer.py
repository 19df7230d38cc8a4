"""A vocal in, an instrumental and a mix out.

  python -m singsong_jax.infer --vocals=voice.wav --output_dir=out
  python -m singsong_jax.infer --vocals=voice.wav --model_dir=MODEL --output_dir=out

The first plays with the tiny model that comes with the package and knows the demo's synthetic songs only.
Writes `instrumental.wav`, `mix.wav`, `picture.png` and `accompaniment.json` into the output folder; of a
folder of voices, into a folder for each. The same command goes on where a killed one was.
"""

import pathlib

from absl import flags

from singsong_jax import cli
from singsong_jax.audio.tracks import FileTrack
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.compiled import keep_compiled_programs
from singsong_jax.inference.folders import accompany_all, voices_in
from singsong_jax.inference.models import DEFAULT_MODEL
from singsong_jax.inference.sampling_flags import chosen_options
from singsong_jax.inference.settings import Settings
from singsong_jax.inference.vocals import Vocals, check_vocals

_VOCALS = flags.DEFINE_string(
  "vocals", None, "audio file with the voice: wav, flac, mp3 or ogg; or a folder of them", required=True
)
_MODEL_DIR = flags.DEFINE_string(
  "model_dir", str(DEFAULT_MODEL), "folder that a training run or export_model wrote"
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_STEP = flags.DEFINE_integer("step", None, "checkpoint to use (default: the newest)")
_FINE_MODEL_DIR = flags.DEFINE_string(
  "fine_model_dir",
  None,
  "folder a training of the fine stage wrote (default: MODEL_DIR/fine, if it is there)",
)
_SKIP_FINE = flags.DEFINE_bool("skip_fine", False, "decode the coarse codes alone")
_SAMPLES = flags.DEFINE_integer("samples", 1, "accompaniments to make of the same vocals")
_SEED = flags.DEFINE_integer("seed", 0, "of the noise and the sampling", lower_bound=0, upper_bound=2**32 - 1)
_FINE_TEMPERATURE = flags.DEFINE_float("fine_temperature", Settings.fine_options.temperature, "of fine codes")
_OVERLAP_SECONDS = flags.DEFINE_float(
  "overlap_seconds", None, "how much of its window each window repeats (default: half of it)"
)
_LOUDNESS = flags.DEFINE_float(
  "loudness", None, "bring the instrumental to so many LUFS, -16 say (default: leave it as it is)"
)
_MAX_SECONDS = flags.DEFINE_float("max_seconds", 4 * 3600, "refuse longer vocals")


def main(_) -> None:
  vocals, output_dir = pathlib.Path(_VOCALS.value), pathlib.Path(_OUTPUT_DIR.value)
  folder = voices_in(vocals, output_dir) if vocals.is_dir() else None
  if folder is None:
    _check(vocals)  # before the model is loaded
  chosen_options(SamplingOptions())  # before the model is loaded, too
  keep_compiled_programs()
  model = Accompanist.from_checkpoint(
    _MODEL_DIR.value, _STEP.value, fine_model_dir=_FINE_MODEL_DIR.value, skip_fine=_SKIP_FINE.value
  )
  options = chosen_options(model.options)
  settings = Settings(
    seed=_SEED.value,
    samples=_SAMPLES.value,
    options=options,
    fine_options=SamplingOptions(temperature=_FINE_TEMPERATURE.value, greedy=options.greedy),
    overlap_seconds=_OVERLAP_SECONDS.value,
    loudness_lufs=_LOUDNESS.value,
  )

  def accompany(voice: pathlib.Path, results: pathlib.Path) -> list[pathlib.Path]:
    return model.write(_check(voice), results, settings)

  for path in (
    accompany(vocals, output_dir) if folder is None else accompany_all(folder, output_dir, accompany)
  ):
    print(f"wrote {path}")


def _check(voice: pathlib.Path) -> Vocals:
  return check_vocals(FileTrack(voice), _MAX_SECONDS.value)


if __name__ == "__main__":
  cli.run(main)
