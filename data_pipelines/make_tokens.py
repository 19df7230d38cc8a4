"""Stages 6–7 on Beam: `clips/` → `tokens/`. A worker writes one shard: it reads the clips of the
shard's songs, tokenises each clip clean and R times noisy, and writes the records sorted by song.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

import apache_beam as beam
import numpy as np

from data_pipelines import clip_records, progress
from data_pipelines.find_songs import Song
from data_pipelines.fit_tokenizers import tokenizer_paths
from data_pipelines.noisy_vocals import noisy_vocals
from data_pipelines.reports import Report
from data_pipelines.settings import DataDir, Settings
from singsong_jax.codecs.base import Codec, load_codec
from singsong_jax.errors import InputError
from singsong_jax.semantics.base import SemanticEncoder, load_semantic_encoder
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry, whole_frames
from tasks import schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """One file of `tokens/` and the songs, sorted by id, whose clips belong into it."""

  path: pathlib.Path
  songs: tuple[Song, ...]

  @property
  def report_path(self) -> pathlib.Path:
    return self.path.parent / "reports" / f"{self.path.name}.json"


def make_shards(settings: Settings, data_dir: DataDir, songs: list[Song]) -> dict[str, list[Shard]]:
  """The shards of every split; some may be without songs."""
  shards = {}
  for split in schema.SPLITS:
    members = [song for song in songs if song.split(settings) == split]
    shards[split] = [
      Shard(path=path, songs=tuple(song for song in members if song.shard(settings) == index))
      for index, path in enumerate(schema.shard_paths(data_dir.root, split, settings.num_shards))
    ]
  return shards


def record_schema(settings: Settings, codec: Codec, semantics: SemanticEncoder) -> schema.RecordSchema:
  """What the tokenisers imply for the records.

  Raises:
    InputError: a clip is not a whole number of their samples or frames.
  """
  try:
    geometry = Geometry(
      sample_rate_hz=codec.sample_rate_hz,
      semantic_rate_hz=semantics.frame_rate_hz,
      acoustic_rate_hz=codec.frame_rate_hz,
      num_acoustic_levels=codec.num_levels,
      window_seconds=settings.window_seconds,
    )
    whole_frames(settings.window_seconds, semantics.sample_rate_hz, "sample_rate_hz of the semantics")
  except ValueError as error:
    raise InputError(
      f"codec {codec.name!r} and semantics {semantics.name!r} do not fit --window_seconds: {error}"
    ) from error
  vocabulary = Vocabulary(num_semantic_codes=semantics.num_codes, num_acoustic_codes=codec.num_codes)
  return schema.RecordSchema(vocabulary=vocabulary, geometry=geometry, num_noise_draws=settings.noise_draws)


class MakeTokens(beam.DoFn):
  """`Shard` → its file and its report; yields the path."""

  def __init__(self, settings: Settings, data_dir: DataDir):
    self._settings = settings
    self._data_dir = data_dir

  def setup(self):
    codec_path, semantics_path = tokenizer_paths(self._data_dir)
    self._codec = load_codec(codec_path)
    self._semantics = load_semantic_encoder(semantics_path)
    self._schema = record_schema(self._settings, self._codec, self._semantics)

  def process(self, shard: Shard) -> Iterator[str]:
    if not shard.report_path.exists():
      report = Report()
      report.on_disk = schema.write_records(shard.path, self._records(shard, report))
      report.check(str(shard.path))
      report.write(shard.report_path)
    yield str(shard.path)

  def _records(self, shard: Shard, report: Report) -> Iterator[bytes]:
    for song in shard.songs:
      for clip in clip_records.read_clips(clip_records.clips_path(self._data_dir, song)):
        report.clips_in += 1
        try:
          record = self._schema.to_example(tokenize(self._settings, self._codec, self._semantics, clip))
        except Exception as error:  # as in make_clips: one clip must not end the job
          report.fail(song.id, clip.clip_id, "tokenize", error)
          continue
        report.kept += 1
        progress.tick()
        yield record


def tokenize(
  settings: Settings, codec: Codec, semantics: SemanticEncoder, clip: clip_records.ClipRecord
) -> dict[str, object]:
  """The fields of one record, as `tasks/schema.py` lists them; R = `settings.noise_draws`."""
  rates_hz = {codec.sample_rate_hz, semantics.sample_rate_hz}
  heard = {rate_hz: waveforms(settings, clip.resampled(rate_hz)) for rate_hz in rates_hz}
  semantic = semantics.encode(heard[semantics.sample_rate_hz])  # [1 + R + 1, frames]
  acoustic = codec.encode(heard[codec.sample_rate_hz])  # [1 + R + 1, frames, levels]
  return {
    "clip_id": clip.clip_id,
    "song_id": clip.song_id,
    "offset_seconds": clip.offset_seconds,
    "vocals_semantic_clean": semantic[0],
    "vocals_semantic_noisy": semantic[1:-1],
    "vocals_acoustic_clean": acoustic[0],
    "vocals_acoustic_noisy": acoustic[1:-1],
    "instrumental_semantic": semantic[-1],
    "instrumental_acoustic": acoustic[-1],
    "vocals_peak_rms_db": clip.vocals_peak_rms_db,
    "instrumental_peak_rms_db": clip.instrumental_peak_rms_db,
  }


def waveforms(settings: Settings, clip: clip_records.ClipRecord) -> np.ndarray:
  """Vocals clean and R times noisy, and the instrumental: float32 `[1 + R + 1, samples]`.

  The same shape for every clip, so that what compiles for a shape does so once.
  """
  noisy = [noisy_vocals(settings, clip, draw) for draw in range(settings.noise_draws)]
  return np.stack([clip.vocals, *noisy, clip.instrumental])
