"""A folder of demo songs with ground truth: written by several processes, resumable, repeatable."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from singsong_jax import files
from singsong_jax.audio.io import write_wav
from singsong_jax.audio.synthesis.song import synthesize_song
from singsong_jax.errors import InputError

GENERATOR = "singsong_demo_songs_1"  # Raise the number when the same seed gives another song.
_DONE, _UNFINISHED = "corpus.json", "corpus.unfinished.json"
_FOLDERS = ("songs", "stems", "annotations")
_MAX_SONGS = 100_000  # Song numbers have five digits, and a song's seed is seed · _MAX_SONGS + number.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusSettings:
  """Everything that decides what the songs sound like.

  Raises:
    InputError: a value out of its range.
  """

  num_songs: int = 40
  song_seconds: float = 20.0
  seed: int = 0
  sample_rate_hz: int = 44_100
  generator: str = GENERATOR

  def __post_init__(self):
    limits = {"num_songs": (1, _MAX_SONGS), "song_seconds": (1, 3_600), "seed": (0, 2**31)}
    for name, (low, high) in limits.items():
      value = getattr(self, name)
      if not low <= value <= high:
        raise InputError(f"{name}={value} is out of range: use {low} … {high}")


def write_corpus(
  output_dir: str | os.PathLike,
  settings: CorpusSettings,
  *,
  num_processes: int | None = None,
  fresh: bool = False,
  show_progress: bool = False,
) -> int:
  """Writes the corpus into `output_dir`, unless it is there already. Layout: `docs/demo_corpus.md`.

  A run that was killed goes on where it stopped. The files do not depend on `num_processes`
  (default: one per core).

  Returns:
    How many songs were made now; 0 if the corpus was complete.

  Raises:
    InputError: the folder holds a corpus of other settings (and not `fresh`) or somebody else's
      songs, or cannot be written.
  """
  output_dir = pathlib.Path(output_dir)
  if fresh:
    _remove(output_dir)
  if _claim(output_dir, settings):
    return 0
  for half_written in output_dir.rglob(".*.partial.*"):  # by a run that was killed
    half_written.unlink()
  missing = [i for i in range(settings.num_songs) if not _annotation_path(output_dir, i).exists()]
  progress = tqdm(
    _run(output_dir, settings, missing, num_processes or os.cpu_count() or 1),
    total=settings.num_songs,
    initial=settings.num_songs - len(missing),  # what an earlier run left
    desc="songs",
    unit="song",
    disable=not show_progress,
  )
  for _ in progress:
    pass
  os.replace(output_dir / _UNFINISHED, output_dir / _DONE)
  return len(missing)


def _claim(output_dir: pathlib.Path, settings: CorpusSettings) -> bool:
  """Marks the folder as holding this corpus. True if the corpus is complete."""
  for name in (_DONE, _UNFINISHED):
    if (output_dir / name).exists():
      _require_same(output_dir / name, settings)
      return name == _DONE
  if any((output_dir / folder).exists() for folder in _FOLDERS):
    raise InputError(f"{output_dir} holds {'/, '.join(_FOLDERS)}/ of something else; use another folder")
  files.write_json(output_dir / _UNFINISHED, dataclasses.asdict(settings))
  return False


def _require_same(marker: pathlib.Path, settings: CorpusSettings) -> None:
  found, wanted = files.read_json(marker), dataclasses.asdict(settings)
  if found != wanted:
    differences = ", ".join(
      f"{name}={found.get(name)} (wanted {value})"
      for name, value in wanted.items()
      if found.get(name) != value
    )
    raise InputError(
      f"{marker.parent} holds another corpus: {differences}; use another folder, or --fresh to start over"
    )


def _remove(output_dir: pathlib.Path) -> None:
  """Deletes a corpus this module wrote, complete or not; anything else stays."""
  done, unfinished = output_dir / _DONE, output_dir / _UNFINISHED
  if done.exists():
    os.replace(done, unfinished)  # First, so that what is half deleted never passes for complete.
  if unfinished.exists():
    for folder in _FOLDERS:
      shutil.rmtree(output_dir / folder, ignore_errors=True)
    unfinished.unlink()


def _run(
  output_dir: pathlib.Path, settings: CorpusSettings, indices: list[int], num_processes: int
) -> Iterator[None]:
  """Writes the songs of those numbers; yields once for each that is done."""
  num_processes = min(num_processes, len(indices))
  if num_processes <= 1:
    yield from (_write_song(output_dir, settings, index) for index in indices)
    return
  context = multiprocessing.get_context("spawn")  # Not forked: the caller may hold threads.
  workers = concurrent.futures.ProcessPoolExecutor(
    num_processes, mp_context=context, initializer=_end_with_parent
  )
  with _one_thread_per_child(), workers as pool:
    futures = [pool.submit(_write_song, output_dir, settings, index) for index in indices]
    try:
      yield from (future.result() for future in concurrent.futures.as_completed(futures))
    finally:
      pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
  """A worker whose parent was killed would wait for songs for ever; this ends it."""

  def wait():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _one_thread_per_child() -> Iterator[None]:
  """Sets the variables that BLAS libraries read when a child process imports them."""
  before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
  os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
  try:
    yield
  finally:
    for name, value in before.items():
      os.environ.pop(name)
      if value is not None:
        os.environ[name] = value


def _write_song(output_dir: pathlib.Path, settings: CorpusSettings, index: int) -> None:
  """Writes one song. Its annotation comes last, so that its presence means the song is complete."""
  song = synthesize_song(settings.seed * _MAX_SONGS + index, settings.song_seconds, settings.sample_rate_hz)
  name = song_name(index)
  for stem in ("vocals", "instrumental"):
    _write(output_dir / "stems" / name / f"{stem}.wav", getattr(song, stem), settings)
  _write(output_dir / "songs" / f"{name}.wav", song.mix, settings)
  files.write_json(_annotation_path(output_dir, index), song.annotation)


def _write(path: pathlib.Path, waveform: np.ndarray, settings: CorpusSettings) -> None:
  write_wav(path, waveform, settings.sample_rate_hz, bits=16)


def song_name(index: int) -> str:
  return f"song_{index:05d}"


def _annotation_path(output_dir: pathlib.Path, index: int) -> pathlib.Path:
  return output_dir / "annotations" / f"{song_name(index)}.json"
