"""Stage 5: the tokenisers of `--codec` and `--semantics` → `tokenizers/{codec,semantics}.npz`.

Those that still have to hear songs are fitted on training songs first.
"""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipelines import clip_records, progress
from data_pipelines.noisy_vocals import noisy_vocals
from data_pipelines.reports import read_all
from data_pipelines.settings import DataDir, Settings
from data_pipelines.sources.base import Song
from singsong_jax import storage
from singsong_jax.audio.specs import Unfitted, is_unfitted
from singsong_jax.codecs.base import Codec, codec_or_unfitted, load_codec
from singsong_jax.errors import InputError
from singsong_jax.semantics.base import SemanticEncoder, load_semantic_encoder, semantic_encoder_or_unfitted


@dataclasses.dataclass(frozen=True)
class ChosenTokenizers:
  """What the settings ask for."""

  codec: Codec | Unfitted
  semantics: SemanticEncoder | Unfitted

  @property
  def rate_hz(self) -> int:
    """The highest rate that one of them hears: that of the clips."""
    return max(self.codec.sample_rate_hz, self.semantics.sample_rate_hz)

  def describe(self) -> dict[str, Any]:
    """As JSON, by content and not by path."""
    return {
      part: tokenizer.describe() if is_unfitted(tokenizer) else tokenizer.fingerprint()
      for part, tokenizer in vars(self).items()
    }


def choose(settings: Settings) -> ChosenTokenizers:
  """The tokenisers of `--codec` and `--semantics`. Raises InputError where one says nothing usable."""
  return ChosenTokenizers(codec_or_unfitted(settings.codec), semantic_encoder_or_unfitted(settings.semantics))


def tokenizer_paths(data_dir: DataDir) -> tuple[str, str]:
  """Codec and semantic encoder."""
  return f"{data_dir.tokenizers}/codec.npz", f"{data_dir.tokenizers}/semantics.npz"


def load_tokenizers(data_dir: DataDir) -> tuple[Codec, SemanticEncoder]:
  """Those of a data directory."""
  codec_path, semantics_path = tokenizer_paths(data_dir)
  with storage.local(codec_path) as codec, storage.local(semantics_path) as semantics:
    return load_codec(codec), load_semantic_encoder(semantics)


def make_tokenizers(
  settings: Settings, data_dir: DataDir, songs: list[Song], chosen: ChosenTokenizers
) -> None:
  """Writes both, fitted where they have to be; what is there already stays.

  The codec hears clean and noisy vocals and instrumentals, the semantic encoder noisy vocals and
  instrumentals: one code book serves the model's input and its target.

  Raises:
    InputError: there is no training clip to fit on.
  """
  unfitted = []
  for path, tokenizer in zip(tokenizer_paths(data_dir), (chosen.codec, chosen.semantics)):
    if storage.exists(path):
      continue
    if is_unfitted(tokenizer):
      unfitted.append((path, tokenizer))
    else:
      _save(tokenizer, path)
  if not unfitted:
    return
  members = sample_clips(settings, data_dir, songs)
  with progress.bar(len(unfitted), "fitting tokenisers", "tokeniser"):
    for path, tokenizer in unfitted:
      clips = FitClips(settings, data_dir, members, tokenizer.sample_rate_hz, clean=tokenizer is chosen.codec)
      _save(tokenizer.fit(clips, settings.seed), path)
      progress.tick()


def _save(tokenizer: Codec | SemanticEncoder, path: str) -> None:
  with storage.replacing(path) as temporary:
    tokenizer.save(temporary)


def sample_clips(settings: Settings, data_dir: DataDir, songs: list[Song]) -> dict[Song, set[int]]:
  """At most `fit_clips` clips of training songs, every clip equally likely, the same for every run.

  Returns:
    Song, in order of ids → which of its clips.
  """
  train = [song for song in songs if settings.split(song) == "train"]
  clips = []
  reports = read_all(clip_records.report_path(data_dir, song) for song in train)
  for song, report in zip(train, reports):
    clips += [(song, index) for index in range(report.kept)]
  if not clips:
    raise InputError("no clip of a training song passed the filter: there is nothing to fit tokenisers on")
  chosen: dict[Song, set[int]] = {}
  for song, index in random.Random(settings.seed).sample(clips, min(settings.fit_clips, len(clips))):
    chosen.setdefault(song, set()).add(index)
  return {song: chosen[song] for song in sorted(chosen, key=lambda song: song.id)}


@dataclasses.dataclass(frozen=True)
class FitClips:
  """What a tokeniser hears of the sampled clips, read from disk each time it is gone through.

  Attributes:
    members: of `sample_clips`.
    rate_hz: of the tokeniser.
    clean: whether it hears the vocals without noise too.
  """

  settings: Settings
  data_dir: DataDir
  members: dict[Song, set[int]]
  rate_hz: int
  clean: bool

  def __iter__(self) -> Iterator[np.ndarray]:
    """float32 `[samples]`."""
    for song, indices in self.members.items():
      for index, clip in enumerate(clip_records.read_clips(clip_records.clips_path(self.data_dir, song))):
        if index in indices:
          heard = clip.resampled(self.rate_hz)
          if self.clean:
            yield heard.vocals
          yield noisy_vocals(self.settings, heard, draw=0)
          yield heard.instrumental
