"""Stages 6–7 on Beam: `clips/` → `tokens/`. A worker writes one shard: it reads the clips of the
shard's songs, tokenises each clip clean and R times noisy, and writes the records sorted by song.
"""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.utils import shared

from data_pipelines import clip_records, progress
from data_pipelines.fit_tokenizers import load_tokenizers
from data_pipelines.inventory import Shard
from data_pipelines.noisy_vocals import noisy_vocals
from data_pipelines.reports import Report
from data_pipelines.settings import DataDir, Settings
from singsong_jax import storage
from singsong_jax.codecs.base import Codec
from singsong_jax.errors import InputError
from singsong_jax.semantics.base import SemanticEncoder
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry, whole_frames
from tasks import schema


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


class _Models:
  """What a worker process has once, however many threads it works with."""

  def __init__(self, settings: Settings, data_dir: DataDir):
    self.codec, self.semantics = load_tokenizers(data_dir)
    self.schema = record_schema(settings, self.codec, self.semantics)


class MakeTokens(beam.DoFn):
  """`Shard` → its file and its report; yields the path."""

  def __init__(self, settings: Settings, data_dir: DataDir):
    self._settings = settings
    self._data_dir = data_dir
    self._shared = shared.Shared()

  def setup(self):
    self._models = self._shared.acquire(lambda: _Models(self._settings, self._data_dir))

  def process(self, shard: Shard) -> Iterator[str]:
    if not storage.exists(shard.report_path):
      report = Report()
      report.on_disk = schema.write_records(shard.path, self._records(shard, report))
      report.check(shard.path)
      report.write(shard.report_path)
      Metrics.counter("singsong", "records").inc(report.kept)
    yield shard.path

  def _records(self, shard: Shard, report: Report) -> Iterator[bytes]:
    codec, semantics = self._models.codec, self._models.semantics
    for song in shard.songs():
      for clip in clip_records.read_clips(clip_records.clips_path(self._data_dir, song)):
        report.clips_in += 1
        try:
          fields = tokenize(self._settings, codec, semantics, clip)
          record = self._models.schema.to_example(fields)
        except Exception as error:  # as in make_clips: one clip must not end the job
          report.fail(song.id, clip.clip_id, "tokenize", error)
          continue
        report.kept += 1
        for part in ("vocals_{}_clean", "instrumental_{}"):
          report.note_codes("semantic", fields[part.format("semantic")][:, None], semantics.num_codes)
          report.note_codes("acoustic", fields[part.format("acoustic")], codec.num_codes)
        progress.tick()
        yield record


def tokenize(
  settings: Settings, codec: Codec, semantics: SemanticEncoder, clip: clip_records.ClipRecord
) -> dict[str, Any]:
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
