"""Which meaning of "peak RMS above −25 dB" gives the paper's numbers of MUSDB18 clips (SingSong §4.1)?

  python -m data_pipelines.calibrate_musdb --musdb=MUSDB18 --output=calibration.csv

For every candidate: how many clips of 10 s there are, and in how many vocals are present, against the
paper's 1232 of the 100 training tracks and 778 of the 50 test tracks. The last row is FastSAG's rule, which
found 348 test clips. The definition that gives both numbers is the one to prepare with; docs/data.md says
how.
"""

import csv
import io

import tqdm
from absl import flags

from data_pipelines.musdb_counts import count_clips, table
from data_pipelines.sources.base import find_songs
from singsong_jax import cli, storage

_MUSDB = flags.DEFINE_string("musdb", None, "folder of MUSDB18 or MUSDB18-HQ", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write the table to, .csv")


def main(_) -> None:
  songs = find_songs(f"musdb:{_MUSDB.value}").songs
  totals, kept, fastsag = count_clips(tqdm.tqdm(songs, unit="track"))
  rows = table(totals, kept, fastsag)
  for row in rows:
    print("  ".join(f"{cell!s:>{width}}" for cell, width in zip(row, (9, 15, 15, 9, 9, 9, 9, 14))))
  if _OUTPUT.value:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    storage.write_text(_OUTPUT.value, text.getvalue())
    print(f"wrote {_OUTPUT.value}")


if __name__ == "__main__":
  cli.run(main)
