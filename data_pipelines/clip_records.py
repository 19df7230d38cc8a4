"""The intermediate `clips/` files: vocals and instrumental as FLAC inside TFRecords.

    clips/<2 hex>/<song key>.tfrecord     one file a song, one record a clip that passed the filter
    clips/<2 hex>/<song key>.json         what became of the song; written after the records

Their rate is the highest that a tokeniser of the job hears. FLAC with 24 bits halves the size of float32 and
errs by less than 2⁻²⁴ of full scale. A separated stem may exceed full scale, so each is stored divided by a
power of two, its `gain`.
"""

import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import soundfile
import tensorflow as tf

from data_pipelines.settings import DataDir
from data_pipelines.sources.base import Song
from singsong_jax import storage
from singsong_jax.audio.resampling import resample
from tasks import schema

_STEMS = ("vocals", "instrumental")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipRecord:
  """A clip ready for the tokenisers: float32 `[samples]`; levels measured at 44.1 kHz."""

  clip_id: str
  song_id: str
  offset_seconds: float
  sample_rate_hz: int
  vocals: np.ndarray
  instrumental: np.ndarray
  vocals_peak_rms_db: float
  instrumental_peak_rms_db: float

  def resampled(self, rate_hz: int) -> "ClipRecord":
    """As a tokeniser of that rate hears it."""
    stems = {name: resample(getattr(self, name), self.sample_rate_hz, rate_hz) for name in _STEMS}
    return dataclasses.replace(self, sample_rate_hz=rate_hz, **stems)


def clips_path(data_dir: DataDir, song: Song) -> str:
  """Where the clips of a song are."""
  return f"{data_dir.clips}/{song.key[:2]}/{song.key}.tfrecord"


def report_path(data_dir: DataDir, song: Song) -> str:
  """Where it says what became of a song."""
  return f"{data_dir.clips}/{song.key[:2]}/{song.key}.json"


def count_reports(data_dir: DataDir) -> int:
  """How many songs are done."""
  folders = storage.names(data_dir.clips)
  reports = (storage.names(f"{data_dir.clips}/{folder}") for folder in folders)
  # Names with a dot are what a worker is writing.
  return sum(name.endswith(".json") and not name.startswith(".") for names in reports for name in names)


def serialize(record: ClipRecord) -> bytes:
  """One clip as a tf.train.Example."""
  features = {}
  for name, value in vars(record).items():
    if name == "sample_rate_hz":
      continue  # FLAC says it
    if name in _STEMS:
      gain, encoded = _to_flac(value, record.sample_rate_hz)
      features[f"{name}_gain"] = _floats(gain)
      features[f"{name}_flac"] = _bytes(encoded)
    else:
      features[name] = _bytes(value.encode()) if isinstance(value, str) else _floats(value)
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString(deterministic=True)


def read_clips(path: str) -> Iterator[ClipRecord]:
  """The clips of one song. Raises InputError when the file is missing or damaged."""
  for serialized in schema.read_records(path):
    features = tf.train.Example.FromString(serialized).features.feature
    stems = {}
    for name in _STEMS:
      gain, encoded = features[f"{name}_gain"], features[f"{name}_flac"]
      stems[name], rate_hz = _from_flac(gain.float_list.value[0], encoded.bytes_list.value[0])
    text = {name: features[name].bytes_list.value[0].decode() for name in ("clip_id", "song_id")}
    numbers = {
      name: features[name].float_list.value[0]
      for name in ("offset_seconds", "vocals_peak_rms_db", "instrumental_peak_rms_db")
    }
    yield ClipRecord(sample_rate_hz=rate_hz, **stems, **text, **numbers)


def _to_flac(waveform: np.ndarray, rate_hz: int) -> tuple[float, bytes]:
  # 23 bits and a sign: beyond 1 − 2⁻²³ libsndfile would clip.
  exponent = np.frexp(np.abs(waveform).max() / (1 - 2**-23))[1]
  gain = float(2.0 ** max(0, exponent))
  encoded = io.BytesIO()
  soundfile.write(encoded, waveform / gain, rate_hz, format="FLAC", subtype="PCM_24")
  return gain, encoded.getvalue()


def _from_flac(gain: float, encoded: bytes) -> tuple[np.ndarray, int]:
  waveform, rate_hz = soundfile.read(io.BytesIO(encoded), dtype="float32")
  return waveform * np.float32(gain), rate_hz


def _floats(value: float) -> tf.train.Feature:
  return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def _bytes(value: bytes) -> tf.train.Feature:
  return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
