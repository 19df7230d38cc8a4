"""Songs in, token records out.

  python -m data_pipelines.prepare --songs=<folder> --output_dir=<folder>

Stages: find songs → load, cut, separate, filter, resample (`clips/`) → fit or copy the tokenisers
(`tokenizers/`) → tokenise (`tokens/`) → account for everything (`manifest.json`, `report.md`,
`dead_letter.jsonl`). Run again, it goes on where it stopped. Beam's own options: --beam_options="--runner=…
--project=…".
"""

import dataclasses
import shlex

from absl import flags

from data_pipelines import job
from data_pipelines.settings import Settings
from singsong_jax import cli

_SONGS = flags.DEFINE_string(
  "songs", None, "folder with songs, searched with its subfolders; a .csv or .jsonl list; musdb:…; fma:…"
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "data directory to make")
_CLIPS_FROM = flags.DEFINE_string(
  "clips_from", None, "data directory whose clips are tokenised anew, in place of --songs"
)
_KEEP_CLIPS = flags.DEFINE_bool("keep_clips", None, "keep clips/ when all is done (default: true)")
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers", None, "processes of this machine (default: as many as it has cores, where that saves time)"
)
_FRESH = flags.DEFINE_bool("fresh", None, "remove what an earlier job left in --output_dir first")
_BEAM_OPTIONS = flags.DEFINE_string("beam_options", None, 'Beam\'s own flags, as in "--runner=… --project=…"')
_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
_SETTINGS = [
  _DEFINE.get(type(field.default), flags.DEFINE_string)(
    field.name, None, f"{field.metadata['help']} (default: {field.default})"
  )
  for field in dataclasses.fields(Settings)
]


def main(_) -> None:
  beam_options = shlex.split(_BEAM_OPTIONS.value) if _BEAM_OPTIONS.value is not None else None
  options = {
    "songs": _SONGS.value,
    "output_dir": _OUTPUT_DIR.value,
    "clips_from": _CLIPS_FROM.value,
    "keep_clips": _KEEP_CLIPS.value,
    "num_workers": _NUM_WORKERS.value,
    "fresh": _FRESH.value,
    "beam_options": beam_options,
  }
  # A flag that was not given leaves its value to gin, or to the default.
  settings = job.configured_settings(**_given({flag.name: flag.value for flag in _SETTINGS}))
  manifest = job.prepare(settings=settings, **_given(options))
  print(summary(manifest))


def _given(values: dict) -> dict:
  return {name: value for name, value in values.items() if value is not None}


def summary(manifest: dict) -> str:
  """The counts, on a few lines."""
  songs, clips = manifest["counts"]["songs"], manifest["counts"]["clips"]
  filtered = ", ".join(f"{count} {reason}" for reason, count in sorted(clips["filtered"].items())) or "none"
  splits = ", ".join(f"{entry['records']} {split}" for split, entry in manifest["splits"].items())
  excluded = f"{songs['excluded']} excluded, " if songs["excluded"] else ""
  return (
    f"songs: {songs['found']} found, {songs['used']} used, {excluded}"
    f"{songs['dead_lettered']} in dead_letter.jsonl\n"
    f"clips: {clips['in']} in, {clips['kept']} kept ({splits}); filtered: {filtered}; "
    f"failed: {clips['dead_lettered']}"
  )


if __name__ == "__main__":
  cli.run(main, uses_gin=True)
