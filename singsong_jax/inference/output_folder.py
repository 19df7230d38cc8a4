"""An accompaniment as files, in bounded memory, and resumable."""

import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from singsong_jax import files
from singsong_jax.audio.io import check_wav_size, to_mono, wav_writer
from singsong_jax.audio.mixing import Levels, measure_levels, mix, scaled_instrumental
from singsong_jax.audio.tracks import FileTrack, RawTrack, Track, first_seconds
from singsong_jax.inference import picture
from singsong_jax.inference.job import Job
from singsong_jax.inference.token_store import FolderStore

WORK_FOLDER = ".singsong_work"  # what a killed run goes on with; deleted in the end
PICTURE_SECONDS = 30.0


def write_accompaniment(
  job: Job, output_dir: str | os.PathLike, model_dir: str | os.PathLike
) -> list[pathlib.Path]:
  """Generates and writes; see `Accompanist.write`."""
  vocals, samples = job.vocals, range(job.settings.samples)
  check_wav_size(vocals.num_samples, vocals.channels)
  output_dir = files.make_folder(output_dir)
  details_path = output_dir / "accompaniment.json"
  details_path.unlink(missing_ok=True)  # it is there only beside what it tells of
  _delete_earlier_results(output_dir)
  store = FolderStore(output_dir / WORK_FOLDER, job.identity())
  codes = job.generate(store)
  levels, paths = [], []
  for sample in samples:
    instrumental = RawTrack(store.folder / f"instrumental_{sample}.f32", vocals.sample_rate_hz)
    instrumental.write(job.decode(codes, sample))
    levels.append(measure_levels(vocals.track, instrumental, job.settings.loudness_lufs))
    suffix = f"_{sample}" if len(samples) > 1 else ""
    paths += _write_waves(output_dir, suffix, vocals.track, vocals.channels, instrumental, levels[-1])
  tracks = [vocals.track, *map(FileTrack, paths[:2])]
  _draw(output_dir / "picture.png", tracks, model_dir, job.chance_nats)
  files.write_json(details_path, job.details(levels))
  store.delete()
  return [*paths, output_dir / "picture.png", details_path]


# `instrumental.wav`, `mix_3.wav`, and what a run that was killed while writing them left.
_WAVE = re.compile(r"\.?(instrumental|mix)(_\d+)?(\.[0-9a-f]{8}\.partial)?\.wav")


def _delete_earlier_results(folder: pathlib.Path) -> None:
  """Those of a run with more samples would stay among the new ones."""
  for path in folder.iterdir():
    if _WAVE.fullmatch(path.name):
      path.unlink()


def _write_waves(
  folder: pathlib.Path, suffix: str, vocals: Track, channels: int, instrumental: Track, levels: Levels
) -> list[pathlib.Path]:
  waves = {
    folder / f"instrumental{suffix}.wav": (1, scaled_instrumental(instrumental, levels)),
    folder / f"mix{suffix}.wav": (channels, mix(vocals, instrumental, levels)),
  }
  for path, (width, blocks) in waves.items():
    _write(path, width, vocals.sample_rate_hz, blocks)
  return [*waves]


def _write(path: pathlib.Path, channels: int, sample_rate_hz: int, blocks: Iterator[np.ndarray]) -> None:
  with wav_writer(path, sample_rate_hz, channels) as write:
    for block in blocks:
      write(block)


def _draw(path: pathlib.Path, tracks: list[Track], model_dir: str | os.PathLike, chance_nats: float) -> None:
  """The beginning of vocals, instrumental and mix: a picture of hours would show nothing and take minutes."""
  names = ("vocals (input)", "instrumental (generated)", "mix")
  beginnings = {name: to_mono(first_seconds(track, PICTURE_SECONDS)) for name, track in zip(names, tracks)}
  picture.draw(path, beginnings, tracks[0].sample_rate_hz, model_dir, chance_nats)
