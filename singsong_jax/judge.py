"""Does an accompanist listen, and does what it plays fit? Beats and chords, beside baselines and ceilings.

  python -m data_pipelines.synthesize --output_dir=SONGS --num_songs=96 --song_seconds=10 --seed=900
  python -m data_pipelines.synthesize --output_dir=LIBRARY --num_songs=96 --song_seconds=25 --seed=901
  python -m singsong_jax.judge --songs=SONGS --library=LIBRARY --model_dir=MODEL --output_dir=OUT

SONGS has NAME/vocals.wav and NAME/instrumental.wav, or is a demo corpus, whose annotations are the truth
then. LIBRARY is what Random and Retrieval take tracks from. Writes `results.json`, `.csv`, `.md` and `.png`,
and every accompaniment to OUT/instrumentals; the same command goes on where a killed one was.

Exit status 1 if the model fails the vocal-use gate: if it does no better with the right vocals than with
wrong ones, or does not follow vocals that were moved, or not by enough for so many songs; 2 if no model could
pass with so few.
"""

import pathlib
import sys

from absl import flags

from singsong_jax import cli, files
from singsong_jax.audio.separation.base import get_separator
from singsong_jax.errors import InputError
from singsong_jax.evaluation import judgement, making, verdict, vocal_use
from singsong_jax.evaluation.retrieval import Library, Librosa, Madmom
from singsong_jax.evaluation.songs import digest, find_songs, some
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.compiled import keep_compiled_programs
from singsong_jax.inference.models import DEFAULT_MODEL
from singsong_jax.inference.sampling_flags import chosen_options

_SONGS = flags.DEFINE_string("songs", None, "folder of songs with stems, to be judged on", required=True)
_LIBRARY = flags.DEFINE_string(
  "library", None, "folder of songs, twice as long, for Random and Retrieval (default: without these rows)"
)
_MODEL_DIR = flags.DEFINE_string(
  "model_dir", str(DEFAULT_MODEL), "folder that a training run or export_model wrote"
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_SEPARATORS = flags.DEFINE_multi_string(
  "separator", [], "a row for vocals that it separates from the songs' mixes: repet, mdx:FILE …; docs/data.md"
)
_NOISE = flags.DEFINE_multi_float(
  "noise", [], "a row for vocals with white noise of this deviation: 0.01 is −40 dB", lower_bound=0.0
)
_MAX_SONGS = flags.DEFINE_integer(
  "max_songs", None, "judge on the first ones alone, or on the first clips of all songs", lower_bound=2
)
_COCOLA = flags.DEFINE_string(
  "cocola", None, "a checkpoint: a column for the coherence with the vocals; docs/evaluation.md"
)
_BEAT_THIS = flags.DEFINE_string(
  "beat_this", None, "a checkpoint: a column for beats as that network hears them; docs/evaluation.md"
)
_EARS = flags.DEFINE_enum(
  "ears", "librosa", ["librosa", "madmom"], "what Retrieval hears keys and tempi with"
)
_SEED = flags.DEFINE_integer("seed", 0, "of everything", lower_bound=0, upper_bound=2**31)


def main(_) -> None:
  songs, left_out = judgement.judgeable(some(find_songs(_SONGS.value), _MAX_SONGS.value))
  library = find_songs(_LIBRARY.value) if _LIBRARY.value else []
  for why in left_out:
    print(f"left out: {why}", file=sys.stderr)
  separators = {spec: get_separator(spec) for spec in _SEPARATORS.value}
  artefacts = {f"separated ({spec})": making.separated(separator) for spec, separator in separators.items()}
  artefacts |= {f"noise of {sigma:g}": making.noised(sigma) for sigma in _NOISE.value}
  trained = _trained_judges()
  keep_compiled_programs()
  accompanist = Accompanist.from_checkpoint(_MODEL_DIR.value)
  options = chosen_options(accompanist.options)
  output = files.make_folder(_OUTPUT_DIR.value)
  run = {
    "songs": str(pathlib.Path(_SONGS.value).absolute()),
    "names": [song.name for song in songs],
    "digest": digest(songs),
    "library": _LIBRARY.value and str(pathlib.Path(_LIBRARY.value).absolute()),
    "library_digest": digest(library),
    "ears": _EARS.value,
    "vocals": [*artefacts],
    "separators": {spec: separator.describe() for spec, separator in separators.items()},
    "seed": _SEED.value,
    "options": vars(options),
    **accompanist.describe(),
  }
  files.claim(output, run)
  run |= {"trained": [metric.describe() for metric in trained], "left_out": left_out}
  judge = judgement.Judge(songs=songs, maker=making.Maker(folder=output, seed=_SEED.value), trained=trained)
  rows = judge.references()
  if library:
    ears = Madmom() if _EARS.value == "madmom" else Librosa()
    seconds = max(len(song.read_instrumental()) for song in songs) / judgement.RATE_HZ
    rows |= judge.baselines(Library(library, ears, seconds), ears)
  accompany = making.accompany_with(accompanist, options)
  for name, vocals in artefacts.items():
    rows[f"{judgement.MODEL}, {name}"] = judge.other_vocals(accompany, name, vocals)
  conditions = judge.conditions(accompany)
  found = verdict.Verdict.of(rows, conditions, run, _SEED.value, judge.tracks)
  for path in found.write(output):
    print(f"wrote {path}")
  print(found.markdown())
  if found.too_few:
    raise InputError(
      f"{found.num_tracks} songs are too few to tell whether the model listens: p < {vocal_use.LEVEL:g} "
      f"takes {vocal_use.FEWEST_SONGS} or more (clips of one song count once)"
    )
  if not found.passes:
    sys.exit("the model FAILS the vocal-use gate: it was not shown that it listens as it must")


def _trained_judges() -> list[judgement.TrainedJudge]:
  found: list[judgement.TrainedJudge] = []
  if _COCOLA.value:
    from singsong_jax.evaluation.cocola import Cocola

    found.append(Cocola(_COCOLA.value))
  if _BEAT_THIS.value:
    from singsong_jax.evaluation.beat_this import BeatThis

    found.append(BeatThis(_BEAT_THIS.value))
  return found


if __name__ == "__main__":
  cli.run(main)
