"""Stage 5: `clips/` → `tokenizers/{codec,semantics}.npz`, fitted on training songs, or copied."""

import pathlib
import random
import shutil

from data_pipelines import clip_records, progress
from data_pipelines.find_songs import Song
from data_pipelines.noisy_vocals import noisy_vocals
from data_pipelines.reports import Report
from data_pipelines.settings import DataDir, Settings
from singsong_jax import files
from singsong_jax.codecs.mdct import fit_mdct_codec
from singsong_jax.errors import InputError
from singsong_jax.semantics.logmel import fit_logmel_encoder


def tokenizer_paths(data_dir: DataDir) -> tuple[pathlib.Path, pathlib.Path]:
  """Codec and semantic encoder."""
  return data_dir.tokenizers / "codec.npz", data_dir.tokenizers / "semantics.npz"


def make_tokenizers(settings: Settings, data_dir: DataDir, songs: list[Song]) -> None:
  """Copies the tokenisers that were given and fits the others; what is there already stays.

  Raises:
    InputError: there is no training clip to fit on.
  """
  codec_path, semantics_path = tokenizer_paths(data_dir)
  for path, given in ((codec_path, settings.codec), (semantics_path, settings.semantics)):
    if given and not path.exists():
      with files.replacing(path) as temporary:
        shutil.copyfile(given, temporary)
  missing = [path for path in (codec_path, semantics_path) if not path.exists()]
  if not missing:
    return
  clips = sample_clips(settings, data_dir, songs)
  instrumentals = [clip.instrumental for clip in clips]
  noisy = [noisy_vocals(settings, clip, draw=0) for clip in clips]
  with progress.bar(len(missing), "fitting tokenisers", "tokeniser"):
    if codec_path in missing:
      clean = [clip.vocals for clip in clips]
      fit_mdct_codec(clean + noisy + instrumentals, settings.seed).save(codec_path)
      progress.tick()
    if semantics_path in missing:  # one code book serves the model's input and its target
      fit_logmel_encoder(noisy + instrumentals, settings.seed).save(semantics_path)
      progress.tick()


def sample_clips(settings: Settings, data_dir: DataDir, songs: list[Song]) -> list[clip_records.ClipRecord]:
  """At most `fit_clips` clips of training songs, every clip equally likely, the same for every run."""
  clips = []
  for song in songs:
    if song.split(settings) == "train":
      report = Report.read(clip_records.clips_path(data_dir, song).with_suffix(".json"))
      clips += [(song, index) for index in range(report.kept)]
  if not clips:
    raise InputError("no clip of a training song passed the filter: there is nothing to fit tokenisers on")
  chosen = random.Random(settings.seed).sample(clips, min(settings.fit_clips, len(clips)))
  wanted: dict[Song, set[int]] = {}
  for song, index in chosen:
    wanted.setdefault(song, set()).add(index)
  return [
    clip
    for song in sorted(wanted, key=lambda song: song.id)
    for index, clip in enumerate(clip_records.read_clips(clip_records.clips_path(data_dir, song)))
    if index in wanted[song]
  ]
