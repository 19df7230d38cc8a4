"""Makes a list of songs that must not be used, for `prepare --exclude=LIST`.

  python -m data_pipelines.list_exclusions --songs=musdb:MUSDB18 --split=test --output=musdb_test.npz

It holds their names and their fingerprints: no audio.
"""

import tqdm
from absl import flags

from data_pipelines.exclusions import fingerprints
from data_pipelines.sources.base import find_songs
from singsong_jax import cli
from singsong_jax.audio import fingerprint
from singsong_jax.errors import InputError
from tasks.schema import SPLITS

_SONGS = flags.DEFINE_string("songs", None, "a folder, or what else `prepare --songs` takes", required=True)
_SPLIT = flags.DEFINE_enum(
  "split", None, SPLITS, "only songs of this split, of data sets that come with splits"
)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz", required=True)


def main(_) -> None:
  if not _OUTPUT.value.endswith(".npz"):
    raise InputError(f"--output={_OUTPUT.value}: the name must end with .npz")
  songs = [song for song in find_songs(_SONGS.value).songs if _SPLIT.value in (None, song.fixed_split)]
  if not songs:
    raise InputError(f"--songs={_SONGS.value} has no songs of --split={_SPLIT.value}")
  prints = fingerprints(tqdm.tqdm(songs, unit="song"))
  fingerprint.save(_OUTPUT.value, prints)
  print(f"wrote {_OUTPUT.value}: {len(prints)} songs")


if __name__ == "__main__":
  cli.run(main)
