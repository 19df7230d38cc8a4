"""Stages 2–4 on Beam: songs → `clips/`. Load, cut, separate, filter, resample, a song at a time.

A worker holds a few clips of one song and writes one file, so that memory grows neither with the corpus nor
with a song, no audio is shuffled between machines, and a job that was stopped goes on with the next song.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils import shared

from data_pipelines import clip_records, progress
from data_pipelines.exclusions import Exclusions
from data_pipelines.load import LoadedSong, load_song
from data_pipelines.reports import EXCLUDED, Report
from data_pipelines.separate import Stems, clip_id, separate
from data_pipelines.settings import DataDir, Settings
from data_pipelines.sources.base import Song
from singsong_jax import storage
from singsong_jax.audio.filtering import rejection_reason
from singsong_jax.audio.levels import peak_rms_db
from singsong_jax.audio.resampling import resample
from singsong_jax.audio.separation.base import Clip, SourceSeparator, get_separator
from tasks import schema


class _Models:
  """What a worker process has once, however many threads it works with."""

  def __init__(self, settings: Settings):
    self.separator: SourceSeparator = get_separator(settings.separator)
    self.exclusions = Exclusions.load(settings.exclude)


class MakeClips(beam.DoFn):
  """`Song` → its files in `clips/`, whose stems have `rate_hz`; yields the song's id."""

  def __init__(self, settings: Settings, data_dir: DataDir, rate_hz: int):
    self._settings = settings
    self._data_dir = data_dir
    self._rate_hz = rate_hz
    self._shared = shared.Shared()

  def setup(self):
    self._models = self._shared.acquire(lambda: _Models(self._settings))

  def process(self, song: Song) -> Iterator[str]:
    path = clip_records.clips_path(self._data_dir, song)
    report_path = clip_records.report_path(self._data_dir, song)
    if not storage.exists(report_path):
      report = Report()
      records = self._records(song, report)
      report.on_disk = schema.write_records(path, records)
      report.check(song.id)
      report.write(report_path)
      _count(report)
    progress.tick()
    yield song.id

  def _records(self, song: Song, report: Report) -> Iterator[bytes]:
    """Serialised clips that pass; `report` tells of the others."""
    exclusions = self._models.exclusions
    if reason := exclusions.name_reason(song):
      report.leave_out(song.id, EXCLUDED, reason)
      return
    with contextlib.ExitStack() as stack:
      try:
        loaded = stack.enter_context(load_song(song, self._settings.window_seconds, exclusions.hear))
      except Exception as error:  # a song may be broken in ways nobody thought of; the job goes on
        report.fail(song.id, None, "load", error)
        return
      report.seconds = loaded.seconds
      if reason := exclusions.sound_reason(loaded.heard):
        report.leave_out(song.id, EXCLUDED, reason)
        return
      yield from self._kept(loaded, report)

  def _kept(self, loaded: LoadedSong, report: Report) -> Iterator[bytes]:
    clips = loaded.clips()
    while batch := list(itertools.islice(clips, self._models.separator.batch_clips)):
      report.clips_in += len(batch)
      for stems in self._separated(batch, report):
        yield from self._record(stems, report)

  def _separated(self, clips: Sequence[Clip], report: Report) -> Iterator[Stems]:
    """The clips taken apart. Where a batch fails each is tried alone: one must not spoil the rest."""
    try:
      yield from separate(self._models.separator, clips)
    except Exception as error:
      if len(clips) == 1:
        report.fail(clips[0].song, clip_id(clips[0]), "separate", error)
        return
      for clip in clips:
        yield from self._separated([clip], report)

  def _record(self, stems: Stems, report: Report) -> Iterator[bytes]:
    clip, filter_settings = stems.clip, self._settings.filter_settings
    try:
      heard = true_stems(stems) if filter_settings.rule == "musdb" else stems
      reason = rejection_reason(heard.vocals, heard.instrumental, clip.sample_rate_hz, filter_settings)
      record = to_record(stems, self._rate_hz)
      report.note_level("vocals", record.vocals_peak_rms_db)
      report.note_level("instrumental", record.instrumental_peak_rms_db)
      serialized = clip_records.serialize(record) if reason is None else b""
    except Exception as error:
      report.fail(clip.song, clip_id(clip), "filter", error)
      return
    if reason is not None:
      report.filtered[reason] += 1
      return
    report.kept += 1
    yield serialized


def true_stems(stems: Stems) -> Stems:
  """The stems as they were recorded, where that is known: whether vocals are there, no separator says."""
  vocals = stems.clip.vocals
  if vocals is None:
    return stems
  return Stems(clip=stems.clip, vocals=vocals, instrumental=stems.clip.mix - vocals)


def to_record(stems: Stems, rate_hz: int) -> clip_records.ClipRecord:
  """Both stems at `rate_hz`, through the same linear filter: they still sum to the mix (§4.1)."""
  clip, vocals, instrumental = stems.clip, stems.vocals, stems.instrumental
  return clip_records.ClipRecord(
    clip_id=clip_id(clip),
    song_id=clip.song,
    offset_seconds=clip.offset_seconds,
    sample_rate_hz=rate_hz,
    vocals=resample(vocals, clip.sample_rate_hz, rate_hz),
    instrumental=resample(instrumental, clip.sample_rate_hz, rate_hz),
    vocals_peak_rms_db=peak_rms_db(vocals, clip.sample_rate_hz),
    instrumental_peak_rms_db=peak_rms_db(instrumental, clip.sample_rate_hz),
  )


def _count(report: Report) -> None:
  """Beam's counters, for runners that show them."""
  counts = {
    "songs": 1,
    "songs_dead_lettered": report.dead_songs,
    "songs_excluded": report.excluded_songs,
    "clips_in": report.clips_in,
    "clips_kept": report.kept,
    "clips_dead_lettered": report.dead_clips,
  }
  counts |= {f"clips_{reason}": count for reason, count in report.filtered.items()}
  for name, count in counts.items():
    Metrics.counter("singsong", name).inc(count)
