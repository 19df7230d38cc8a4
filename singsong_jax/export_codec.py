"""Makes a tokeniser's file of a trained SoundStream.

  python -m singsong_jax.export_codec --model_dir=CODEC --output=codec.npz

Takes the averaged networks and the codebooks of the newest checkpoint, or of --step. The file is what
`data_pipelines.prepare --codec=codec.npz` and `singsong_jax.reconstruct` read.
"""

from absl import flags

from singsong_jax import cli
from singsong_jax.codecs.soundstream import SoundStreamCodec
from singsong_jax.errors import InputError
from singsong_jax.systems import system_from_description
from singsong_jax.systems.soundstream import SoundStream
from singsong_jax.training.checkpoints import load_checkpoint

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "what `--system=soundstream` trained", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz", required=True)
_STEP = flags.DEFINE_integer("step", None, "checkpoint; default: the newest")


def main(_) -> None:
  codec = export(_MODEL_DIR.value, _STEP.value)
  codec.save(_OUTPUT.value)
  print(
    f"{_OUTPUT.value}: {codec.frame_rate_hz:g} Hz × {codec.num_levels} levels, of step {codec.source['step']}"
  )


def export(model_dir: str, step: int | None = None) -> SoundStreamCodec:
  """The codec of a checkpoint.

  Raises:
    InputError: there is none, it is another system's, or its codebooks are not fitted yet.
  """
  system, params, step = load_checkpoint(model_dir, step, system_from_description)
  if not isinstance(system, SoundStream):
    raise InputError(f"{model_dir} holds a model of the system {system.name!r}, not a codec's: 'soundstream'")
  try:
    return SoundStreamCodec.from_parts(
      system.network, params.average, params.codebooks.entries, {"step": step, "system": system.describe()}
    )
  except ValueError as error:
    raise InputError(f"step {step} of {model_dir} makes no codec: {error}") from error


if __name__ == "__main__":
  cli.run(main)
