"""A vocal in, an instrumental and a mix out.

  python -m singsong_jax.infer --vocals=voice.wav --model_dir=demo/model --output_dir=out

Writes `instrumental.wav`, `mix.wav`, `picture.png` and `accompaniment.json` into the output folder.
"""

import pathlib

from absl import flags

from singsong_jax import cli, files
from singsong_jax.audio.io import audio_info, read_audio, to_mono, write_wav
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference import accompanist, picture

_DEFAULTS = SamplingOptions()
_VOCALS = flags.DEFINE_string(
  "vocals", None, "audio file with the voice: wav, flac, mp3 or ogg", required=True
)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "folder a training run wrote", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_STEP = flags.DEFINE_integer("step", None, "checkpoint to use (default: the newest)")
_SEED = flags.DEFINE_integer("seed", 0, "of the noise and the sampling", lower_bound=0, upper_bound=2**32 - 1)
_TEMPERATURE = flags.DEFINE_float("temperature", _DEFAULTS.temperature, "of the sampling")
_TOP_K = flags.DEFINE_integer("top_k", _DEFAULTS.top_k, "sample among the k likeliest codes; 0: among all")
_GREEDY = flags.DEFINE_bool("greedy", _DEFAULTS.greedy, "take the likeliest code at every position")
_MAX_SECONDS = flags.DEFINE_float("max_seconds", accompanist.MAX_SECONDS, "refuse longer vocals")


def main(_) -> None:
  seconds = audio_info(_VOCALS.value)[2]
  if seconds > _MAX_SECONDS.value:  # before hours of audio are read into memory
    raise InputError(f"{_VOCALS.value} lasts {seconds:.0f} s, over --max_seconds={_MAX_SECONDS.value:g}")
  waveform, sample_rate_hz = read_audio(_VOCALS.value)  # [channels, samples]
  accompanist.check_vocals(waveform, sample_rate_hz, _MAX_SECONDS.value)
  model = accompanist.Accompanist.from_checkpoint(_MODEL_DIR.value, _STEP.value)
  output_dir = files.make_folder(_OUTPUT_DIR.value)  # now, not after minutes of generating
  options = SamplingOptions(temperature=_TEMPERATURE.value, top_k=_TOP_K.value, greedy=_GREEDY.value)
  result = model.accompany(
    waveform, sample_rate_hz, seed=_SEED.value, options=options, max_seconds=_MAX_SECONDS.value
  )
  write_results(output_dir, waveform, sample_rate_hz, result)


def write_results(output_dir: pathlib.Path, vocals, sample_rate_hz: int, result) -> None:
  """Writes the four outputs. The JSON goes first and comes last: it is there only beside its own three."""
  (output_dir / "accompaniment.json").unlink(missing_ok=True)
  write_wav(output_dir / "instrumental.wav", result.instrumental, sample_rate_hz)
  write_wav(output_dir / "mix.wav", result.mix, sample_rate_hz)
  tracks = {
    "vocals (input)": to_mono(vocals),
    "instrumental (generated)": result.instrumental,
    "mix": to_mono(result.mix),
  }
  picture.draw(output_dir / "picture.png", tracks, sample_rate_hz, _MODEL_DIR.value)
  files.write_json(
    output_dir / "accompaniment.json",
    {"vocals": _VOCALS.value, "model_dir": _MODEL_DIR.value} | result.details,
  )
  for name in ("instrumental.wav", "mix.wav", "picture.png", "accompaniment.json"):
    print(f"wrote {output_dir / name}")


if __name__ == "__main__":
  cli.run(main)
