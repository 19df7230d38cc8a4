"""Runs the stages in order, and accounts for every song and clip."""

import contextlib
import json
import pathlib
import sys

import threadpoolctl

from data_pipelines import make_tokens, progress, runner, summary
from data_pipelines.clip_records import count_reports, report_path
from data_pipelines.fit_tokenizers import ChosenTokenizers, load_tokenizers, make_tokenizers
from data_pipelines.inventory import Shard, make_shards, write_inventory
from data_pipelines.load import song_seconds
from data_pipelines.make_clips import MakeClips
from data_pipelines.reports import Report, read_total, total
from data_pipelines.settings import DataDir, Settings
from data_pipelines.sources.base import Song
from data_pipelines.workers import Workers
from singsong_jax import __version__, storage
from singsong_jax.errors import InputError
from tasks import schema

# To choose the number of processes by: audio seconds that a core does in a second (benchmarks/data.py).
_CLASSICAL_SPEED, _NEURAL_SPEED, _TOKENISING_SPEED = 16, 2, 10
_CLASSICAL = ("repet", "isolated", "simulated")  # the latter two are faster still
_HEADERS_READ = 16


def run(
  settings: Settings,
  data_dir: DataDir,
  songs: list[Song],
  other_files: int,
  chosen: ChosenTokenizers,
  workers: Workers,
) -> None:
  """Does what is left of each stage; the manifest comes last. Raises as `job.prepare`."""
  sweep(data_dir)
  write_inventory(settings, data_dir, songs)
  # Products this small gain little from a second thread, and lose tenfold where another process has it.
  with threadpoolctl.threadpool_limits(1, user_api="blas"):
    clips = run_clips(settings, data_dir, songs, settings.clips_rate_hz or chosen.rate_hz, workers)
    make_tokenizers(settings, data_dir, songs, chosen)
    splits = run_tokens(settings, data_dir, clips.kept, workers)
  tokens = total(splits.values())
  if tokens.clips_in != clips.kept:
    raise RuntimeError(f"{clips.kept} clips were made, but {tokens.clips_in} were tokenised")
  write_dead_letters(data_dir, total([clips, tokens]))
  if not tokens.kept:
    raise InputError(f"not one of {clips.kept} clips could be tokenised; {data_dir.dead_letter} says why")
  made = manifest(settings, data_dir, songs, other_files, clips, splits)
  summary.write(settings, data_dir, made, clips, tokens)
  storage.write_json(data_dir.manifest, made)
  warn_of_empty_splits(data_dir, splits)


def run_clips(
  settings: Settings, data_dir: DataDir, songs: list[Song], rate_hz: int, workers: Workers
) -> Report:
  """Songs → `clips/`, whose stems have `rate_hz`, unless they are taken over.

  Raises:
    InputError: not one clip is left.
  """
  left = 0 if data_dir.clips_root else len(songs) - count_reports(data_dir)
  if left:
    processes = workers.processes(lambda: separating_seconds(settings, songs) * left / len(songs), left)
    done = None if workers.in_this_process(processes) else lambda: count_reports(data_dir)
    shards = [shard for split in make_shards(settings, data_dir).values() for shard in split]
    with progress.bar(len(songs), "separating", "song", done):
      runner.run(shards, MakeClips(settings, data_dir, rate_hz), workers, processes, expand=Shard.songs)
  clips = read_total(report_path(data_dir, song) for song in songs)
  if not clips.kept:
    write_dead_letters(data_dir, clips)
    raise InputError(
      f"not one clip of {len(songs)} songs is left: {clips.clips_in} clips of "
      f"{settings.window_seconds:g} s, filtered {dict(clips.filtered)}, "
      f"{len(clips.dead_letters)} failures listed in {data_dir.dead_letter}"
    )
  return clips


def run_tokens(settings: Settings, data_dir: DataDir, num_clips: int, workers: Workers) -> dict[str, Report]:
  """`clips/` → `tokens/`; what became of each split."""
  shards = make_shards(settings, data_dir)
  every = [shard for members in shards.values() for shard in members]
  done_before = set(storage.names(f"{data_dir.tokens}/reports"))
  left = [shard for shard in every if shard.report_path.rpartition("/")[2] not in done_before]
  if left:
    work_seconds = num_clips * settings.window_seconds / _TOKENISING_SPEED * len(left) / len(every)
    processes = workers.processes(lambda: work_seconds, len(left))
    done = None if workers.in_this_process(processes) else Tokenised(every)
    with progress.bar(num_clips, "tokenising", "clip", done):
      runner.run(left, make_tokens.MakeTokens(settings, data_dir), workers, processes)
  return {split: read_total(shard.report_path for shard in members) for split, members in shards.items()}


def separating_seconds(settings: Settings, songs: list[Song]) -> float:
  """What separating takes on one core, judged by the headers of a few songs."""
  seconds = []
  for song in songs[:: -(-len(songs) // _HEADERS_READ)]:
    with contextlib.suppress(InputError):  # the job will say what is wrong with it
      seconds.append(song_seconds(song))
  mean = sum(seconds) / max(1, len(seconds))
  speed = _CLASSICAL_SPEED if settings.separator.startswith(_CLASSICAL) else _NEURAL_SPEED
  return mean * len(songs) / speed


class Tokenised:
  """Counts the clips of the shards that are done, reading each report once."""

  def __init__(self, shards: list[Shard]):
    self._waiting, self._clips = set(shards), 0

  def __call__(self) -> int:
    for shard in [shard for shard in self._waiting if storage.exists(shard.report_path)]:
      self._clips += Report.read(shard.report_path).clips_in
      self._waiting.remove(shard)
    return self._clips


def manifest(
  settings: Settings,
  data_dir: DataDir,
  songs: list[Song],
  other_files: int,
  clips: Report,
  splits: dict[str, Report],
) -> dict:
  """What was made of what; `tasks/corpus.py` reads `schema` and `splits`."""
  codec, semantics = load_tokenizers(data_dir)
  return {
    "schema_version": schema.VERSION,
    "schema": make_tokens.record_schema(settings, codec, semantics).describe(),
    "splits": {
      split: {"records": report.kept, "shards": settings.num_shards} for split, report in splits.items()
    },
    "job": storage.read_json(data_dir.job),
    "code_version": __version__,
    "tokenizers": {
      "codec": {"name": codec.name, "fingerprint": codec.fingerprint()},
      "semantics": {"name": semantics.name, "fingerprint": semantics.fingerprint()},
    },
    "counts": {
      "songs": {
        "found": len(songs),
        "used": len(songs) - clips.dead_songs - clips.excluded_songs,
        "excluded": clips.excluded_songs,
        "dead_lettered": clips.dead_songs,
        "other_files": other_files,
      },
      "clips": {
        "in": clips.clips_in,
        "kept": sum(report.kept for report in splits.values()),
        "filtered": dict(clips.filtered),
        "dead_lettered": clips.dead_clips + sum(report.dead_clips for report in splits.values()),
      },
    },
  }


def write_dead_letters(data_dir: DataDir, report: Report) -> None:
  """One JSON object a line, sorted, so that equal jobs give equal files."""
  letters = sorted(report.dead_letters, key=lambda letter: (letter.song, letter.clip or ""))
  storage.write_text(data_dir.dead_letter, "".join(json.dumps(vars(letter)) + "\n" for letter in letters))


def warn_of_empty_splits(data_dir: DataDir, splits: dict[str, Report]) -> None:
  for split, report in splits.items():
    if not report.kept:
      print(
        f"WARNING: the {split} split of {data_dir.root} is EMPTY. Splits go by song: add songs, or change "
        "--validation_fraction and --test_fraction.",
        file=sys.stderr,
      )


def sweep(data_dir: DataDir) -> None:
  """Deletes what a killed job was in the middle of writing (`files.replacing` names them)."""
  if storage.is_remote(data_dir.root):  # walking through a bucket takes long, and what is left costs little
    return
  for path in pathlib.Path(data_dir.root).rglob(".*.partial*"):
    path.unlink()
