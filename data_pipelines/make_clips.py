"""Stages 2–4 on Beam: songs → `clips/`. Load, cut, separate, filter, resample, a song at a time.

A worker holds one song and writes one file, so that memory does not grow with the corpus, no audio
is shuffled between machines, and a job that was stopped goes on with the next song.
"""

from collections.abc import Iterator

import apache_beam as beam

from data_pipelines import clip_records, progress
from data_pipelines.find_songs import Song
from data_pipelines.load import load_clips
from data_pipelines.reports import Report
from data_pipelines.separate import Stems, make_separator, separate
from data_pipelines.settings import DataDir, Settings
from singsong_jax.audio.filtering import FilterSettings, rejection_reason
from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.resampling import resample
from tasks import schema


class MakeClips(beam.DoFn):
  """`Song` → its files in `clips/`, whose stems have `rate_hz`; yields the song's id."""

  def __init__(self, settings: Settings, data_dir: DataDir, rate_hz: int):
    self._settings = settings
    self._data_dir = data_dir
    self._rate_hz = rate_hz

  def setup(self):
    self._separator = make_separator(self._settings)

  def process(self, song: Song) -> Iterator[str]:
    path = clip_records.clips_path(self._data_dir, song)
    report_path = path.with_suffix(".json")
    if not report_path.exists():
      report = Report()
      records = self._records(song, report)
      report.on_disk = schema.write_records(path, records)
      report.check(song.id)
      report.write(report_path)
    progress.tick()
    yield song.id

  def _records(self, song: Song, report: Report) -> Iterator[bytes]:
    """Serialised clips that pass; `report` tells of the others."""
    try:
      clips = load_clips(song, self._settings.window_seconds)
    except Exception as error:  # a song may be broken in ways nobody thought of; the job goes on
      report.fail(song.id, None, "load", error)
      return
    for clip in clips:
      report.clips_in += 1
      try:
        stems = separate(self._separator, clip)
        reason = rejection_reason(
          stems.vocals, stems.instrumental, stems.sample_rate_hz, filter_settings(self._settings)
        )
        record = clip_records.serialize(to_record(stems, self._rate_hz)) if reason is None else None
      except Exception as error:
        report.fail(song.id, f"{song.id}@{clip.offset_seconds:g}", "separate", error)
        continue
      if reason is not None:
        report.filtered[reason] += 1
        continue
      report.kept += 1
      yield record


def filter_settings(settings: Settings) -> FilterSettings:
  """The filter's part of the settings."""
  return FilterSettings(
    min_instrumental_db=settings.min_instrumental_db, max_vocal_excess_db=settings.max_vocal_excess_db
  )


def to_record(stems: Stems, rate_hz: int) -> clip_records.ClipRecord:
  """Both stems at `rate_hz`, through the same linear filter: they still sum to the mix (§4.1)."""
  vocals, instrumental = stems.vocals, stems.instrumental
  return clip_records.ClipRecord(
    clip_id=stems.clip_id,
    song_id=stems.song_id,
    offset_seconds=stems.offset_seconds,
    sample_rate_hz=rate_hz,
    vocals=resample(vocals, stems.sample_rate_hz, rate_hz),
    instrumental=resample(instrumental, stems.sample_rate_hz, rate_hz),
    vocals_peak_rms_db=peak_rms_db(vocals, stems.sample_rate_hz),
    instrumental_peak_rms_db=peak_rms_db(instrumental, stems.sample_rate_hz),
  )
