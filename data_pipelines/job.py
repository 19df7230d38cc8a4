"""The whole job, from a folder of songs to a finished data directory."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Sequence

import gin

from data_pipelines.find_songs import Song, digest_songs, find_songs
from data_pipelines.fit_tokenizers import ChosenTokenizers, choose
from data_pipelines.separate import make_separator
from data_pipelines.settings import DataDir, Settings, start_job
from singsong_jax import files
from singsong_jax.errors import InputError

# The same class, with its defaults open to gin files as `Settings.<name> = …`.
configured_settings = gin.external_configurable(Settings, module="data_pipelines")


@gin.configurable(module="data_pipelines", denylist=["settings"])
def prepare(
  *,
  settings: Settings,
  songs: str = "",
  output_dir: str = "",
  fresh: bool = False,
  beam_options: Sequence[str] = (),
) -> dict:
  """Runs what is left to do of the job.

  Args:
    settings: what decides the records.
    songs: folder with songs, searched with its subfolders.
    output_dir: the data directory to make. Every worker must see both folders at these paths.
    fresh: removes what an earlier job left in `output_dir` first.
    beam_options: Beam's own command-line options, `--runner=…` among them.

  Returns:
    The manifest.

  Raises:
    InputError: no songs, none usable, other settings than those `output_dir` was made with, or
      tokenisers that cannot be had.
  """
  for name, value in (("songs", songs), ("output_dir", output_dir)):
    if not value:
      raise InputError(f"--{name} is missing")
  data_dir = DataDir(files.local_folder(output_dir).resolve())
  found, other_files = find_songs(files.local_folder(songs).resolve())
  chosen = choose(settings)
  job = describe(settings, found, chosen)
  make_separator(settings)  # says what is wrong with the settings before any work
  if fresh:
    remove(data_dir)
  start_job(data_dir, job)
  if data_dir.manifest.exists():
    print(f"{data_dir.root} is complete already; --fresh makes it again")
  else:
    from data_pipelines import stages  # TensorFlow and Beam: seconds that a finished job need not wait

    stages.run(settings, data_dir, found, other_files, chosen, beam_options)
  return files.read_json(data_dir.manifest)


def describe(settings: Settings, songs: list[Song], chosen: ChosenTokenizers) -> dict:
  """What is asked for, as JSON: settings, songs and tokenisers by content, not by path."""
  job = dataclasses.asdict(settings) | chosen.describe()
  if settings.stems:
    job["stems"] = os.path.abspath(settings.stems)
  return {**job, "songs": {"files": len(songs), "digest": digest_songs(songs)}}


def remove(data_dir: DataDir) -> None:
  """Deletes what a job wrote, and nothing else: the manifest first, so that no half looks whole, and
  the job's description last, so that the rest is still known to be ours.
  """
  if not data_dir.job.exists():
    return
  data_dir.manifest.unlink(missing_ok=True)
  data_dir.dead_letter.unlink(missing_ok=True)
  for folder in data_dir.folders:
    if folder.exists():
      print(f"removing {folder}", file=sys.stderr)
      shutil.rmtree(folder)
  data_dir.job.unlink()
