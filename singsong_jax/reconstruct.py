"""A sound through a codec and back: what it makes of a voice or a song, to hear and in figures.

  python -m singsong_jax.reconstruct song.mp3 decoded.wav
  python -m singsong_jax.reconstruct --codec=DATA/tokenizers/codec.npz --levels=4 --picture=codec.png \\
    song.mp3 decoded.wav

The first file may be wav, flac, mp3 or ogg, of any rate, mono or stereo; its channels are averaged, since
codes are of mono sound. The second is written. Printed are, for 1, 2, 4, 8 and all levels of codes, their bit
rate and how near their sound is to the original (SI-SDR: higher is nearer; log-mel L1: lower is nearer), and
how many of its codes each level uses. A level has one code a frame, so in a short file it cannot use many.
"""

from absl import flags

from singsong_jax import cli
from singsong_jax.codecs.base import codec_from_spec
from singsong_jax.inference.reconstruction import bitrate_kbps, fidelity_table, reconstruct, usage_table

_CODEC = flags.DEFINE_string(
  "codec", "soundstream", "a codec's name, file (.npz) or public weights; docs/tokenizers.md lists them"
)
_LEVELS = flags.DEFINE_integer(
  "levels", None, "decode only so many levels of codes, coarse to fine (default: all)"
)
_PICTURE = flags.DEFINE_string("picture", None, "PNG file to draw spectrograms by number of levels in")
_COMPARE = flags.DEFINE_bool(
  "compare", True, "measure 1, 2, 4, 8 and all levels; with --nocompare only what is written, in less time"
)
_KEEP_RATE = flags.DEFINE_bool(
  "keep_rate", False, "write the sample rate of the file that was read (default: the codec's)"
)
_MAX_SECONDS = flags.DEFINE_float("max_seconds", 3600, "refuse longer files")


def main(argv: list[str]) -> None:
  source, target = argv[1:]
  codec = codec_from_spec(_CODEC.value)
  geometry = f"{codec.frame_rate_hz:g} frames/s × {codec.num_levels} levels × {codec.num_codes:,} codes"
  kbps = bitrate_kbps(codec, codec.num_levels)
  print(f"{codec.name}: {codec.sample_rate_hz:,} Hz, {geometry} = {kbps:g} kbps")
  found = reconstruct(
    source,
    target,
    codec,
    levels=_LEVELS.value,
    picture=_PICTURE.value,
    compare=_COMPARE.value,
    keep_rate=_KEEP_RATE.value,
    max_seconds=_MAX_SECONDS.value,
  )
  read = found.original
  channels = "mono" if read.channels == 1 else "stereo, averaged"
  print(f"{source}: {read.seconds:.2f} s, {read.sample_rate_hz:,} Hz, {channels}; {found.frames} frames\n")
  print(f"{fidelity_table(found.fidelity)}\n\n{usage_table(found.usage)}\n")
  scaled = f", scaled by {found.gain:.3f} so as not to clip" if found.gain < 1 else ""
  print(f"wrote {target}: {found.levels} levels, {found.sample_rate_hz:,} Hz{scaled}")
  if _PICTURE.value:
    print(f"wrote {_PICTURE.value}")


if __name__ == "__main__":
  cli.run(main, takes_files=2)
