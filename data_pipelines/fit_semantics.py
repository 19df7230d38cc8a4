"""Makes a tokeniser's file of a trained w2v-BERT: fits semantic codes to its features.

  python -m data_pipelines.fit_semantics --model_dir=W2V --data_dir=DATA --output=semantics.npz

Hears the training songs of a data directory, noisy vocals and instrumentals, since one code book serves the
model's input and its target; or of a folder of audio, as they are. Features wait in a temporary file (TMPDIR
says where), 2 bytes for each dimension of each frame. The file is what
`data_pipelines.prepare --semantics=semantics.npz` reads.
"""

from absl import flags

from data_pipelines.code_book import fit
from singsong_jax import cli

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "what `--system=w2v_bert` trained", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "data directory, or folder of audio files", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz", required=True)
_NUM_CODES = flags.DEFINE_integer("num_codes", 1024, "size of the code book", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "of the choice of clips, noise and k-means", lower_bound=0)
_STEP = flags.DEFINE_integer("step", None, "checkpoint; default: the newest")
_MAX_CLIPS = flags.DEFINE_integer("max_clips", None, "hear a random choice of so many", lower_bound=1)


def main(_) -> None:
  encoder = fit(
    _MODEL_DIR.value,
    _DATA_DIR.value,
    num_codes=_NUM_CODES.value,
    seed=_SEED.value,
    step=_STEP.value,
    max_clips=_MAX_CLIPS.value,
  )
  encoder.save(_OUTPUT.value)
  source = encoder.source
  print(
    f"{_OUTPUT.value}: {encoder.frame_rate_hz:g} Hz, {encoder.num_codes} codes of step {source['step']}, "
    f"fitted to {source['frames']} frames of {source['clips']} clips"
  )


if __name__ == "__main__":
  cli.run(main)
