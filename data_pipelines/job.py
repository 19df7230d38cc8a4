"""The whole job, from a folder of songs to a finished data directory."""

import dataclasses
import json
import sys
from collections.abc import Sequence

import gin

from data_pipelines.exclusions import Exclusions
from data_pipelines.fit_tokenizers import ChosenTokenizers, choose
from data_pipelines.inventory import read_inventory
from data_pipelines.settings import CLIP_SETTINGS, DataDir, Settings, start_job
from data_pipelines.sources.base import Song, Songs, digest_songs, find_songs
from data_pipelines.workers import Workers
from singsong_jax import storage
from singsong_jax.audio.separation.base import get_separator
from singsong_jax.errors import InputError

# The same class, with its defaults open to gin files as `Settings.<name> = …`.
configured_settings = gin.external_configurable(Settings, module="data_pipelines")


@gin.configurable(module="data_pipelines", denylist=["settings"])
def prepare(
  *,
  settings: Settings,
  songs: str = "",
  output_dir: str = "",
  clips_from: str = "",
  keep_clips: bool = True,
  fresh: bool = False,
  num_workers: int = 0,
  beam_options: Sequence[str] = (),
) -> dict:
  """Runs what is left to do of the job.

  Args:
    settings: what decides the records.
    songs: folder with songs, searched with its subfolders, or what else `sources/base.py` lists.
    output_dir: the data directory to make. Every worker must see both at these paths or addresses.
    clips_from: another data directory, whose clips are tokenised anew; in place of `songs`.
    keep_clips: whether `clips/` stays when all is done.
    fresh: removes what an earlier job left in `output_dir` first.
    num_workers: processes of this machine; 0: as many as it has cores, where that saves time.
    beam_options: Beam's own command-line options, `--runner=…` among them.

  Returns:
    The manifest.

  Raises:
    InputError: no songs, none usable, other settings than those `output_dir` was made with, or
      a separator or tokenisers that cannot be had.
  """
  workers = Workers(number=num_workers, beam_options=tuple(beam_options))
  if bool(songs) == bool(clips_from):
    raise InputError("give one of --songs and --clips_from" if songs else "--songs is missing")
  if not output_dir:
    raise InputError("--output_dir is missing")
  data_dir = DataDir(storage.absolute(output_dir), storage.absolute(clips_from) if clips_from else None)
  if data_dir.root == data_dir.clips_root:
    raise InputError(
      "--clips_from and --output_dir are the same; records of other tokenisers need a place of their own"
    )
  chosen = choose(settings)
  if clips_from:
    settings, job, found = taken_over(settings, DataDir(data_dir.clips_root or ""), chosen)
  else:
    found = find_songs(songs)
    job = describe(settings, found.songs, chosen)
  settings = settings.for_songs(len(found.songs))
  job["num_shards"] = settings.num_shards
  with storage.locked(data_dir.root):
    if fresh:
      remove(data_dir)
    start_job(data_dir, job)
    if storage.exists(data_dir.manifest):
      print(f"{data_dir.root} is complete already; --fresh makes it again")
    else:
      from data_pipelines import stages  # Beam: seconds that a finished job need not wait

      stages.run(settings, data_dir, found.songs, found.other_files, chosen, workers)
    if not keep_clips:
      storage.remove(f"{data_dir.root}/clips")
  return storage.read_json(data_dir.manifest)


def describe(settings: Settings, songs: list[Song], chosen: ChosenTokenizers) -> dict:
  """What is asked for, as JSON: settings, songs, models and lists by content, not by path.

  Raises:
    InputError: a separator or an exclusion list that cannot be had.
  """
  separator = get_separator(settings.separator).describe()
  Exclusions.load(settings.exclude)
  return {
    **dataclasses.asdict(settings),
    **chosen.describe(),
    "separator": json.loads(json.dumps(separator)),  # as it will be read back
    "exclude": settings.exclude and storage.sha256(settings.exclude),
    "clips_rate_hz": settings.clips_rate_hz or chosen.rate_hz,
    "songs": {"files": len(songs), "digest": digest_songs(songs)},
  }


def taken_over(settings: Settings, before: DataDir, chosen: ChosenTokenizers) -> tuple[Settings, dict, Songs]:
  """Settings, description and songs of a job that tokenises the clips of another.

  Raises:
    InputError: they are none, of a lower rate than a tokeniser hears, or of other settings than are given.
  """
  job = storage.read_json(before.job)
  if not storage.exists(before.clips):
    raise InputError(f"{before.root} has no clips/: it was made with --keep_clips=false, or is not finished")
  defaults = Settings()
  for name in CLIP_SETTINGS:
    given = getattr(settings, name)
    if given != getattr(defaults, name) and given != job[name]:
      raise InputError(
        f"--{name}={given}: the clips of {before.root} were made with {job[name]!r}; leave it out, or "
        "separate the songs anew"
      )
  if (rate_hz := job["clips_rate_hz"]) < chosen.rate_hz:
    raise InputError(
      f"the clips of {before.root} have {rate_hz} Hz, and a tokeniser hears {chosen.rate_hz}: prepare "
      f"the songs with --clips_rate_hz={chosen.rate_hz} or more"
    )
  kept = {name: job[name] for name in (*CLIP_SETTINGS, "clips_rate_hz", "songs")}
  known = {name: job[name] for name in CLIP_SETTINGS if name not in ("separator", "exclude")}
  settings = dataclasses.replace(settings, **known, clips_rate_hz=rate_hz)
  songs = Songs(read_inventory(before), 0)
  return settings, {**dataclasses.asdict(settings), **chosen.describe(), **kept}, songs


def remove(data_dir: DataDir) -> None:
  """Deletes what a job wrote, and nothing else: the manifest first, so that no half looks whole, and
  the job's description last, so that the rest is still known to be ours.
  """
  if not storage.exists(data_dir.job):
    return
  for path in (data_dir.manifest, data_dir.dead_letter, data_dir.report, data_dir.picture):
    storage.remove(path)
  for folder in data_dir.folders:
    if storage.exists(folder):
      print(f"removing {folder}", file=sys.stderr)
      storage.remove(folder)
  storage.remove(data_dir.job)
