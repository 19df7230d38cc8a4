"""Runs the stages in order, and accounts for every song and clip."""

import json
import pathlib
import sys
from collections.abc import Sequence

import threadpoolctl

from data_pipelines import make_tokens, progress, runner
from data_pipelines.clip_records import clips_path
from data_pipelines.find_songs import Song
from data_pipelines.fit_tokenizers import ChosenTokenizers, make_tokenizers, tokenizer_paths
from data_pipelines.make_clips import MakeClips
from data_pipelines.reports import Report, total
from data_pipelines.settings import DataDir, Settings
from singsong_jax import __version__, files
from singsong_jax.codecs.base import load_codec
from singsong_jax.errors import InputError
from singsong_jax.semantics.base import load_semantic_encoder
from tasks import schema


def run(
  settings: Settings,
  data_dir: DataDir,
  songs: list[Song],
  other_files: int,
  chosen: ChosenTokenizers,
  beam_options: Sequence[str],
) -> None:
  """Does what is left of each stage; the manifest comes last. Raises as `job.prepare`."""
  sweep(data_dir)
  # Products this small gain little from a second thread, and lose tenfold where another process has it.
  with threadpoolctl.threadpool_limits(1, user_api="blas"):
    clips = run_clips(settings, data_dir, songs, chosen.rate_hz, beam_options)
    make_tokenizers(settings, data_dir, songs, chosen)
    splits = run_tokens(settings, data_dir, songs, clips.kept, beam_options)
  tokens = total(list(splits.values()))
  if tokens.clips_in != clips.kept:
    raise RuntimeError(f"{clips.kept} clips were made, but {tokens.clips_in} were tokenised")
  write_dead_letters(data_dir, total([clips, tokens]))
  files.write_json(data_dir.manifest, manifest(settings, data_dir, songs, other_files, clips, splits))
  warn_of_empty_splits(data_dir, splits)


def run_clips(
  settings: Settings, data_dir: DataDir, songs: list[Song], rate_hz: int, beam_options: Sequence[str]
) -> Report:
  """Songs → `clips/`, whose stems have `rate_hz`. Raises InputError when not one clip is left."""
  with progress.bar(len(songs), "separating", "song"):
    runner.run(songs, MakeClips(settings, data_dir, rate_hz), beam_options)
  clips = total([Report.read(clips_path(data_dir, song).with_suffix(".json")) for song in songs])
  if not clips.kept:
    write_dead_letters(data_dir, clips)
    raise InputError(
      f"not one clip of {len(songs)} songs is left: {clips.clips_in} clips of "
      f"{settings.window_seconds:g} s, filtered {dict(clips.filtered)}, "
      f"{len(clips.dead_letters)} failures listed in {data_dir.dead_letter}"
    )
  return clips


def run_tokens(
  settings: Settings, data_dir: DataDir, songs: list[Song], num_clips: int, beam_options: Sequence[str]
) -> dict[str, Report]:
  """`clips/` → `tokens/`; what became of each split."""
  shards = make_tokens.make_shards(settings, data_dir, songs)
  with progress.bar(num_clips, "tokenising", "clip"):
    todo = [shard for split in shards.values() for shard in split]
    runner.run(todo, make_tokens.MakeTokens(settings, data_dir), beam_options)
  return {
    split: total([Report.read(shard.report_path) for shard in members]) for split, members in shards.items()
  }


def manifest(
  settings: Settings,
  data_dir: DataDir,
  songs: list[Song],
  other_files: int,
  clips: Report,
  splits: dict[str, Report],
) -> dict:
  """What was made of what; `tasks/corpus.py` reads `schema` and `splits`."""
  codec_path, semantics_path = tokenizer_paths(data_dir)
  codec, semantics = load_codec(codec_path), load_semantic_encoder(semantics_path)
  unusable = sum(letter.clip is None for letter in clips.dead_letters)
  return {
    "schema_version": schema.VERSION,
    "schema": make_tokens.record_schema(settings, codec, semantics).describe(),
    "splits": {
      split: {"records": report.kept, "shards": settings.num_shards} for split, report in splits.items()
    },
    "job": files.read_json(data_dir.job),
    "code_version": __version__,
    "tokenizers": {
      "codec": {"name": codec.name, "fingerprint": codec.fingerprint()},
      "semantics": {"name": semantics.name, "fingerprint": semantics.fingerprint()},
    },
    "counts": {
      "songs": {
        "found": len(songs),
        "used": len(songs) - unusable,
        "dead_lettered": unusable,
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
  files.write_text(data_dir.dead_letter, "".join(json.dumps(vars(letter)) + "\n" for letter in letters))


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
  for path in pathlib.Path(data_dir.root).rglob(".*.partial*"):
    path.unlink()
