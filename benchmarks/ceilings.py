"""What a default model could reach at best: beats and chords of true accompaniments after a codec's levels.

python -m benchmarks.ceilings --output=benchmarks/results/ceilings.json
"""

import numpy as np
from absl import flags

from benchmarks import reports
from singsong_jax import cli, files
from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.codecs.base import codec_from_spec
from singsong_jax.codecs.mdct import fit_mdct_codec
from singsong_jax.evaluation.judgement import means
from singsong_jax.evaluation.musical import RATE_HZ, Truth, measure

_SONGS = flags.DEFINE_integer("ceiling_songs", 24, "of 10 s; twice as many are fitted on")
_SEED, _FIT_SEED, _SECONDS = 900_000, 700_000, 10.0
_LEVELS = (1, 2, 4, 12)
_SHOWN = ("chord_24", "chord_tone_energy", "beat_f")


def main(_) -> None:
  songs = [synthesize_song(_SEED + i, _SECONDS, RATE_HZ) for i in range(_SONGS.value)]
  others = [synthesize_song(_FIT_SEED + i, _SECONDS, RATE_HZ) for i in range(2 * _SONGS.value)]
  truths = [Truth.from_annotation(song.annotation) for song in songs]
  stems = [stem for song in others for stem in (song.instrumental, song.vocals)]
  rows = {"true accompaniment": [measure(song.instrumental, truth) for song, truth in zip(songs, truths)]}
  for name, codec in (("soundstream", codec_from_spec("soundstream")), ("mdct", fit_mdct_codec(stems))):
    for levels in _LEVELS:
      rows[f"{name}, {levels} levels"] = [
        measure(_heard(codec, song.instrumental, levels), truth) for song, truth in zip(songs, truths)
      ]
  found = means(rows)
  table = [(name, *(f"{scores[metric]:.3f}" for metric in _SHOWN)) for name, scores in found.items()]
  reports.print_table(("", *_SHOWN), table)
  if reports.OUTPUT.value:
    files.write_json(
      reports.OUTPUT.value, {"machine": reports.describe_machine(), "songs": _SONGS.value, "rows": found}
    )


def _heard(codec, waveform: np.ndarray, levels: int) -> np.ndarray:
  codes = codec.encode(waveform[None])[..., :levels]
  return np.asarray(codec.decode(codes)[0][: len(waveform)], np.float32)


if __name__ == "__main__":
  cli.run(main)
