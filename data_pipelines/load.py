"""Stage 2: a song → mono clips of 10 s at 44.1 kHz, one after another; the remainder is dropped."""

from collections.abc import Iterator

from data_pipelines.find_songs import Song
from data_pipelines.settings import SONG_RATE_HZ
from singsong_jax.audio.io import read_audio, to_mono
from singsong_jax.audio.resampling import resample
from singsong_jax.audio.separation import Clip
from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import whole_frames


def load_clips(song: Song, window_seconds: float) -> list[Clip]:
  """Reads and cuts one song.

  Raises:
    InputError: the file cannot be used (`read_audio` says why), or it is shorter than one clip.
  """
  waveform, rate_hz = read_audio(song.path)  # [channels, samples]
  mono = resample(to_mono(waveform), rate_hz, SONG_RATE_HZ)  # [samples]
  clips = list(_cut(song.id, mono, window_seconds))
  if not clips:
    seconds = waveform.shape[-1] / rate_hz
    raise InputError(f"too_short: {seconds:.2f} s, a clip takes {window_seconds:g} s")
  return clips


def _cut(song_id: str, mono, window_seconds: float) -> Iterator[Clip]:
  size = whole_frames(window_seconds, SONG_RATE_HZ, "SONG_RATE_HZ")
  for index in range(len(mono) // size):
    yield Clip(
      mix=mono[index * size : (index + 1) * size],
      sample_rate_hz=SONG_RATE_HZ,
      song=song_id,
      offset_seconds=index * window_seconds,
    )
