"""Songs whose stems are known, as the folders that `evaluate`, `judge` and `study` take (SingSong §4.1).

  python -m data_pipelines.export_songs --songs=musdb:MUSDB18 --split=test --output_dir=TEST
  python -m data_pipelines.export_songs --songs=musdb:MUSDB18 --split=validation --whole --output_dir=LIBRARY

The first writes the clips of 10 s in which vocals are present, `<song>/<number>/vocals.wav` and
`instrumental.wav`; the second whole tracks, for Random and Retrieval. Mono, 44.1 kHz, float. `export.json`
says how many clips were left out and why, and which songs could not be read. The same command goes on where a
killed one was.
"""

from absl import flags

from data_pipelines.song_folders import RECORD, export
from data_pipelines.sources.base import find_songs
from singsong_jax import cli, files
from singsong_jax.audio.filtering import FilterSettings
from singsong_jax.errors import InputError
from tasks.schema import SPLITS

_SONGS = flags.DEFINE_string("songs", None, "musdb:FOLDER, or a list with stems; docs/data.md", required=True)
_SPLIT = flags.DEFINE_enum(
  "split", None, SPLITS, "only songs of this split, of data sets that come with splits"
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder to make", required=True)
_WHOLE = flags.DEFINE_bool("whole", False, "whole songs, up to their last full clip, and no filter")
_CLIP_SECONDS = flags.DEFINE_float("clip_seconds", 10.0, "length of a clip", lower_bound=1.0)
_FILTER = flags.DEFINE_string("filter", "musdb", "which clips are kept: musdb, fastsag, singsong or none")
_MIN_VOCALS_DB = flags.DEFINE_float("min_vocals_db", FilterSettings.min_vocals_db, "of the filter musdb")


def main(_) -> None:
  songs = [song for song in find_songs(_SONGS.value).songs if _SPLIT.value in (None, song.fixed_split)]
  if not songs:
    raise InputError(f"--songs={_SONGS.value} has no songs of --split={_SPLIT.value}")
  clip_filter = FilterSettings(rule=_FILTER.value, min_vocals_db=_MIN_VOCALS_DB.value)
  folder = files.local_folder(_OUTPUT_DIR.value)
  counts = export(songs, folder, _CLIP_SECONDS.value, None if _WHOLE.value else clip_filter)
  left_out = ", ".join(f"{number} {reason}" for reason, number in counts.left_out.items()) or "none"
  print(f"{folder}: {counts.kept} kept, left out: {left_out}")
  for song, why in counts.failed.items():
    print(f"could not be read: {song}: {why}")
  if not counts.kept:
    raise InputError(f"nothing of {len(songs)} songs was kept; {folder / RECORD} says why")


if __name__ == "__main__":
  cli.run(main)
