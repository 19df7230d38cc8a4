"""How far are accompaniments from real music? Fréchet and kernel distances of mixes (SingSong §4.3).

  python -m singsong_jax.evaluate --references=MIXES --vocals=VOCALS --output_dir=OUT \\
    --instrumentals=isolated=MADE_FROM_ISOLATED --instrumentals=separated=MADE_FROM_SEPARATED \\
    --embedding=vggish:vggish-10086976.pth

Every instrumental is mixed with the isolated vocals of the same name as they are. Writes `results.json`,
`results.csv` and `results.png`. With sets called `isolated` and `separated` it prints the paper's FADi, FADs
and Δ.
"""

import pathlib

import tqdm
from absl import flags

from singsong_jax import cli
from singsong_jax.errors import InputError
from singsong_jax.evaluation.clips import Mixes, find_clips, read_clips
from singsong_jax.evaluation.embeddings import get_embedding
from singsong_jax.evaluation.table import Table, compare, embed_clips

_REFERENCES = flags.DEFINE_string("references", None, "folder of real mixes", required=True)
_VOCALS = flags.DEFINE_string("vocals", None, "folder of isolated vocals", required=True)
_INSTRUMENTALS = flags.DEFINE_multi_string(
  "instrumentals",
  None,
  "NAME=FOLDER: instrumentals named like the vocals, or what infer wrote",
  required=True,
)
_EMBEDDING = flags.DEFINE_string("embedding", "logmel", "logmel, or vggish:FILE; docs/evaluation.md")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the results", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "of the intervals and the floor", lower_bound=0)


def main(_) -> None:
  embedding = get_embedding(_EMBEDDING.value)
  vocals, references = find_clips(_VOCALS.value), find_clips(_REFERENCES.value)
  sets = {
    name: Mixes.pair(vocals, find_clips(folder), f"--instrumentals={name}={folder}")
    for name, folder in _named(_INSTRUMENTALS.value).items()
  }
  rate_hz = embedding.sample_rate_hz
  known = embed_clips(_progress(read_clips(references, rate_hz), len(references), "references"), embedding)
  found = {
    name: embed_clips(_progress(mixes.read(rate_hz), len(vocals), name), embedding)
    for name, mixes in sets.items()
  }
  table = compare(known, found, embedding, _SEED.value)
  print(summary(table))
  for path in table.write(pathlib.Path(_OUTPUT_DIR.value)):
    print(f"wrote {path}")


def summary(table: Table) -> str:
  """The numbers on a few lines."""
  lines = [
    f"{row.system}: {row.embedding} Fréchet {row.frechet:.3f} ({row.low:.3f} … {row.high:.3f}), KAD "
    f"{row.kad:.3f}; "
    f"{row.clips} clips, {row.vectors} vectors"
    for row in table.rows
  ]
  found = {row.system: row.frechet for row in table.rows}
  if {"isolated", "separated"} <= found.keys():
    isolated, separated = found["isolated"], found["separated"]
    lines.append(f"FADi {isolated:.3f}, FADs {separated:.3f}, Δ {isolated - separated:.3f}")
  lines.append(f"half of the {table.reference_clips} references against the other half: {table.floor:.3f}")
  return "\n".join(lines)


def _named(arguments: list[str]) -> dict[str, str]:
  named: dict[str, str] = {}
  for argument in arguments:
    name, equals, folder = argument.partition("=")
    if not equals or not name or not folder or name in named:
      raise InputError(f"--instrumentals={argument}: write NAME=FOLDER, each NAME once")
    named[name] = folder
  return named


def _progress(clips, total: int, what: str):
  return tqdm.tqdm(clips, total=total, desc=what, unit="clip")


if __name__ == "__main__":
  cli.run(main)
