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
killed goes on.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import tqdm
from absl import flags

from singsong_jax import cli, files
from singsong_jax.audio.separation.base import get_separator
from singsong_jax.errors import InputError
from singsong_jax.evaluation import likelihood, making
from singsong_jax.evaluation.clips import Mixes, find_clips, named_folders, read_clips
from singsong_jax.evaluation.embeddings import get_embedding
from singsong_jax.evaluation.frechet import check_halves
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.evaluation.table import Table, compare, embed_clips
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.compiled import keep_compiled_programs
from singsong_jax.inference.models import DEFAULT_MODEL, load_models

_SONGS = flags.DEFINE_string("songs", None, "folder of NAME/vocals.wav and NAME/instrumental.wav")
_MODEL_DIR = flags.DEFINE_string(
  "model_dir", None, "accompanies --songs (default: what comes with the package)"
)
_STEP = flags.DEFINE_integer("step", None, "its checkpoint (default: the newest)")
_SEPARATOR = flags.DEFINE_string("separator", "repet", "of the separated vocals; docs/data.md")
_REFERENCES = flags.DEFINE_string("references", None, "folder of real mixes")
_VOCALS = flags.DEFINE_string("vocals", None, "folder of isolated vocals")
_INSTRUMENTALS = flags.DEFINE_multi_string(
  "instrumentals", [], "NAME=FOLDER: instrumentals named like the vocals, or what infer wrote"
)
_EMBEDDING = flags.DEFINE_string("embedding", "logmel", "logmel, vggish:FILE, …; docs/evaluation.md")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "of the model, the intervals and the floor", lower_bound=0)


@dataclasses.dataclass(frozen=True)
class _Sets:
  """What is compared.

  Attributes:
    references: at a rate, real mixes; their number.
    likelihoods: by set, where a model was asked.
  """

  references: Callable[[int], Iterator[tuple[str, np.ndarray]]]
  num_references: int
  mixes: dict[str, Mixes]
  likelihoods: dict[str, likelihood.Likelihood]


def main(_) -> None:
  embedding = get_embedding(_EMBEDDING.value)
  sets = _of_model() if _SONGS.value or _MODEL_DIR.value else _of_folders()
  rate_hz = embedding.sample_rate_hz
  references = _progress(sets.references(rate_hz), sets.num_references, "references")
  known = embed_clips(references, embedding)
  found = {
    name: embed_clips(_progress(mixes.read(rate_hz), len(mixes.vocals), name), embedding)
    for name, mixes in sets.mixes.items()
  }
  table = compare(known, found, embedding, _SEED.value, likelihoods=sets.likelihoods)
  print(summary(table))
  for path in table.write(pathlib.Path(_OUTPUT_DIR.value)):
    print(f"wrote {path}")


def summary(table: Table) -> str:
  """The numbers on a few lines."""
  lines = [
    f"{row.system}: {row.embedding} Fréchet {row.frechet:.3f} ({row.low:.3f} … {row.high:.3f}), KAD "
    f"{row.kad:.3f}; {row.clips} clips, {row.vectors} vectors"
    for row in table.rows
  ]
  found = {row.system: row for row in table.rows}
  if {"isolated", "separated"} <= found.keys():
    isolated, separated = found["isolated"], found["separated"]
    lines.append(
      f"FADi {isolated.frechet:.3f}, FADs {separated.frechet:.3f}, "
      f"Δ {isolated.frechet - separated.frechet:.3f}"
    )
    if isolated.nll is not None and separated.nll is not None:
      lines.append(
        f"NLLi {isolated.nll:.3f}, NLLs {separated.nll:.3f}; among the legal codes "
        f"{isolated.nll_masked:.3f}, {separated.nll_masked:.3f}"
      )
  lines.append(f"half of the {table.reference_clips} references against the other half: {table.floor:.3f}")
  return "\n".join(lines)


def _of_folders() -> _Sets:
  if not (_REFERENCES.value and _VOCALS.value and _INSTRUMENTALS.value):
    raise InputError("give --songs, or --references, --vocals and --instrumentals; --helpshort tells more")
  vocals, references = find_clips(_VOCALS.value), find_clips(_REFERENCES.value)
  mixes = {
    name: Mixes.pair(vocals, find_clips(folder), f"--instrumentals={name}={folder}")
    for name, folder in named_folders(_INSTRUMENTALS.value).items()
  }
  return _Sets(lambda rate_hz: read_clips(references, rate_hz), len(references), mixes, {})


def _of_model() -> _Sets:
  if not _SONGS.value:
    raise InputError("--model_dir accompanies --songs: give them, too")
  if _REFERENCES.value or _VOCALS.value or _INSTRUMENTALS.value:
    raise InputError("--songs has references, vocals and instrumentals: give it, or the others")
  songs = find_songs(_SONGS.value)
  check_halves(len(songs))  # before hours of generating
  separator = get_separator(_SEPARATOR.value)
  models = load_models(_MODEL_DIR.value or DEFAULT_MODEL, _STEP.value)
  output = files.make_folder(_OUTPUT_DIR.value)
  making.claim(
    output,
    {
      "songs": [song.name for song in songs],
      "separator": separator.describe(),
      "seed": _SEED.value,
      **models.describe(),
    },
  )
  keep_compiled_programs()
  maker = making.Maker(folder=output, seed=_SEED.value)
  accompany = making.accompany_with(Accompanist(models))
  vocals = {song.name: song.vocals for song in songs}
  mixes, likelihoods = {}, {}
  kinds = {"isolated": making.isolated, "separated": making.separated(separator)}
  for name, heard in kinds.items():
    rows = []
    for index, song in enumerate(_progress(songs, len(songs), f"accompaniments, {name}")):
      seed = maker.seed_of(index)
      waveform, rate_hz = heard(song, seed)
      maker.kept(name, song, rate_hz, lambda: accompany(waveform, rate_hz, seed))  # noqa: B023
      rows.append(likelihood.encode(models, waveform, song.read_instrumental(rate_hz), rate_hz, seed))
    mixes[name] = Mixes(vocals, {song.name: maker.path(name, song) for song in songs})
    likelihoods[name] = likelihood.likelihood(models, rows)
  true = Mixes(vocals, {song.name: song.instrumental for song in songs})
  return _Sets(true.read, len(songs), mixes, likelihoods)


def _progress(clips, total: int, what: str):
  return tqdm.tqdm(clips, total=total, desc=what, unit="clip")


if __name__ == "__main__":
  cli.run(main)
