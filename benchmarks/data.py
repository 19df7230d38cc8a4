"""How fast songs become records, and records batches; what 46,000 hours of music take.

python -m benchmarks.data --output=RESULTS.json

Every stage of the Beam job works on demo songs on one core, pinned to it, and says how many seconds of audio
it does in a second. MDX-Net has random weights at the public network's sizes: its arithmetic, not its ears.
Reading is measured on all cores this process may use, and set against what eight H200 would train on.
"""

import concurrent.futures
import functools
import json
import multiprocessing
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import reports, sizes
from singsong_jax import files

SONG_SECONDS, WARM_UP_CLIPS = 60, 1
PAPER_HOURS = 46_000  # of 1 M songs (§4.1)
SEPARATORS = ("repet", "mdx")
GPUS, PEAK_FLOPS, UTILISATION = (
  8,
  989e12,
  0.5,
)  # H200, dense bfloat16 by its data sheet; what we hope to reach
BATCH_SIZE = 512

_RECORDS = flags.DEFINE_integer("data_records", 2_048, "records of the corpus that is read")
_BATCHES = flags.DEFINE_integer("data_batches", 8, "batches of 512 that are read and timed")
_PRICE = flags.DEFINE_float("price_per_core_hour", 0.06, "in any currency; of machine and service together")


def main(_) -> None:
  with tempfile.TemporaryDirectory() as folder:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, initializer=_one_thread) as pool:
      speeds, megabytes = pool.submit(measure_stages, folder).result()
    reading = measure_reading(pathlib.Path(folder, "data"), _RECORDS.value, _BATCHES.value)
  result = {
    "machine": reports.describe_machine(),
    "audio_seconds_per_core_second": speeds,
    "megabytes_per_minute": megabytes,
    "reading": reading,
    "paper": {name: estimate(speeds, name, _PRICE.value) for name in SEPARATORS},
  }
  rows = [(name, f"{speed:,.1f}") for name, speed in speeds.items()]
  reports.print_table(("stage", "× real time on one core"), rows)
  print(json.dumps({name: result[name] for name in ("megabytes_per_minute", "reading", "paper")}, indent=2))
  if reports.OUTPUT.value:
    files.write_json(reports.OUTPUT.value, result)


def _one_thread() -> None:
  """Before NumPy, TensorFlow, jax and onnxruntime are imported by what is measured."""
  os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def measure_stages(folder: str) -> tuple[dict[str, float], dict[str, float]]:
  """Seconds of audio that a core does in a second, by stage; and megabytes a minute of what is written."""
  from benchmarks import mdx_network
  from data_pipelines import clip_records, load, make_clips, make_tokens
  from data_pipelines.exclusions import fingerprints
  from data_pipelines.fit_tokenizers import choose
  from data_pipelines.separate import separate
  from data_pipelines.settings import Settings
  from data_pipelines.sources.base import Song
  from singsong_jax.audio.filtering import rejection_reason
  from singsong_jax.audio.io import write_wav
  from singsong_jax.audio.separation.base import get_separator
  from singsong_jax.audio.synthesis import synthesize_song

  path = f"{folder}/song.wav"
  song = synthesize_song(seed=0, seconds=SONG_SECONDS)
  write_wav(path, np.stack([song.mix, song.mix]), 44_100)
  source = Song(id="song", path=_as_mp3(path))
  with load.load_song(source, 10.0) as loaded:
    clips = list(loaded.clips())
  speeds = {
    "load (mp3, read twice)": _speed(lambda: _load(source), SONG_SECONDS),
    "fingerprint (with reading)": _speed(lambda: fingerprints([source]), SONG_SECONDS),
  }
  mdx_network.save(f"{folder}/vocals.onnx")
  for name, spec in (("repet", "repet"), ("mdx", f"mdx:{folder}/vocals.onnx,batch_chunks=2")):
    separator = get_separator(spec)
    speeds[f"separate ({name})"] = _speed(functools.partial(separator.separate, clips[:2]), 20)
  settings = Settings()
  stems = separate(get_separator("repet"), clips[:2])

  def filter_and_store() -> list[bytes]:
    for part in stems:
      rejection_reason(part.vocals, part.instrumental, 44_100, settings.filter_settings)
    return [clip_records.serialize(make_clips.to_record(part, 16_000)) for part in stems]

  speeds["filter, resample, store"] = _speed(filter_and_store, 20)
  megabytes = {"clips": 3 * sum(map(len, filter_and_store())) / 1e6}  # of 20 s
  record = make_clips.to_record(stems[0], 16_000)
  tokenizers = choose(settings)
  schema = make_tokens.record_schema(settings, tokenizers.codec, tokenizers.semantics)

  def tokenize() -> bytes:
    return schema.to_example(make_tokens.tokenize(settings, tokenizers.codec, tokenizers.semantics, record))

  tokenize()  # compiles
  megabytes["records"] = 6 * len(tokenize()) / 1e6
  speeds[f"tokenise (embedded, {settings.noise_draws} draws)"] = _speed(tokenize, 10)
  return speeds, megabytes


def _as_mp3(path: str) -> str:
  import soundfile

  waveform, rate_hz = soundfile.read(path)
  soundfile.write(path.replace(".wav", ".mp3"), waveform, rate_hz)
  return path.replace(".wav", ".mp3")


def _load(song) -> int:
  from data_pipelines import load

  with load.load_song(song, 10.0) as loaded:
    return sum(1 for _ in loaded.clips())


def _speed(work: Callable[[], object], audio_seconds: float, least_seconds: float = 5.0) -> float:
  """Audio seconds in a second of the core: the best of the repetitions, as others use the machine too."""
  best, spent = np.inf, 0.0
  while spent < least_seconds:
    started = time.perf_counter()
    work()
    elapsed = time.perf_counter() - started
    best, spent = min(best, elapsed), spent + elapsed
  return audio_seconds / best


def measure_reading(data_dir: pathlib.Path, num_records: int, num_batches: int) -> dict[str, float]:
  """Examples a second of Noisy S-SA in batches of 512, against what training wants."""
  from singsong_jax.systems.singsong import SingSong
  from tasks.datasets import train_iterator
  from tasks.singsong import SingSongExamples

  _write_corpus(data_dir, num_records)
  cores = len(os.sched_getaffinity(0))
  batches = train_iterator(
    data_dir=str(data_dir),
    examples=SingSongExamples(vocals="noisy", features="s_sa"),
    batch_size=BATCH_SIZE,
    seed=0,
    num_readers=cores,
  )
  next(batches)
  wall, busy = time.perf_counter(), time.process_time()
  for _ in range(num_batches):
    next(batches)
  wall, busy = time.perf_counter() - wall, time.process_time() - busy
  examples = num_batches * BATCH_SIZE
  flops = SingSong(network=sizes.encoder_decoder("base"), features="s_sa").training_flops(BATCH_SIZE)
  wanted = BATCH_SIZE * GPUS * PEAK_FLOPS * UTILISATION / flops
  return {
    "cores": cores,
    "examples_per_second": examples / wall,
    "examples_per_core_second": examples / busy,
    "training_flops_per_batch": flops,
    "wanted_examples_per_second": wanted,
    "cores_wanted": wanted / (examples / busy),
  }


def _write_corpus(data_dir: pathlib.Path, num_records: int) -> None:
  """Random codes in the paper's sizes, 16 files."""
  from tasks.schema import SPLITS, RecordSchema, shard_paths, write_records

  schema, rng, num_shards = RecordSchema(), np.random.default_rng(0), 16
  example = {"offset_seconds": 0.0, "vocals_peak_rms_db": -20.0, "instrumental_peak_rms_db": -15.0}
  for shard, path in enumerate(shard_paths(data_dir, "train", num_shards)):
    records = []
    for index in range(shard, num_records, num_shards):
      codes = {
        name: rng.integers(0, field.limit, field.length)
        for name, field in schema.fields.items()
        if field.limit
      }
      names = {"clip_id": f"{index}@0", "song_id": str(index)}
      records.append(schema.to_example({**example, **codes, **names}))
    write_records(path, records)
  splits = {split: {"records": 0, "shards": num_shards} for split in SPLITS}
  splits["train"]["records"] = num_records
  tokenizers = {part: {"name": "random", "fingerprint": part} for part in ("codec", "semantics")}
  manifest = {"schema": schema.describe(), "splits": splits, "tokenizers": tokenizers}
  files.write_json(data_dir / "manifest.json", manifest)


def estimate(speeds: dict[str, float], separator: str, price_per_core_hour: float) -> dict[str, float]:
  """Core hours of all stages for the paper's corpus, and what follows."""
  others = {name for name in speeds if name.startswith("separate")} - {f"separate ({separator})"}
  hours = sum(PAPER_HOURS / speed for name, speed in speeds.items() if name not in others)
  return {"core_hours": hours, "hours_on_1000_cores": hours / 1_000, "price": hours * price_per_core_hour}


if __name__ == "__main__":
  app.run(main)
