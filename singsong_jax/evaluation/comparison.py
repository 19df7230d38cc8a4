"""The whole of `singsong_jax.evaluate`: sets of mixes, made or found, against real ones."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin
import numpy as np
import tqdm

from singsong_jax import files
from singsong_jax.audio.separation.base import get_separator
from singsong_jax.errors import InputError
from singsong_jax.evaluation import likelihood, making
from singsong_jax.evaluation.clips import Clips, Mixes, find_clips, find_mixes, read_clips
from singsong_jax.evaluation.embeddings import get_embedding
from singsong_jax.evaluation.frechet import check_halves
from singsong_jax.evaluation.songs import digest_files, find_songs, tracks_of
from singsong_jax.evaluation.table import Table, compare, embed_clips
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.compiled import keep_compiled_programs
from singsong_jax.inference.models import DEFAULT_MODEL, load_models


@dataclasses.dataclass(frozen=True)
class _Sets:
  """What is compared.

  Attributes:
    references: at a rate, real mixes; their number.
    likelihoods: by set, where a model was asked.
    tracks, reference_tracks: which song each clip is of, in every set and in the references.
  """

  references: Callable[[int], Iterator[tuple[str, np.ndarray]]]
  num_references: int
  mixes: Mapping[str, Mixes]
  likelihoods: Mapping[str, likelihood.Likelihood | None]
  tracks: Sequence[str]
  reference_tracks: Sequence[str]


@gin.configurable(module="evaluation")
def evaluate(
  *,
  output_dir: str,
  songs: str | None = None,
  model_dir: str | None = None,
  step: int | None = None,
  separator: str | None = None,
  sampling: Mapping[str, Any] | None = None,
  references: str | None = None,
  vocals: str | None = None,
  instrumentals: Mapping[str, str] | None = None,
  embedding: str = "logmel",
  seed: int = 0,
) -> Table:
  """Accompanies songs, or takes instrumentals that are there, and compares the mixes with real ones.

  Args:
    output_dir: folder for what is generated.
    songs: folder of NAME/vocals.wav and NAME/instrumental.wav, which a model accompanies.
    model_dir, step: that model and its checkpoint; None: what comes with the package, and the newest.
    separator: of the separated vocals, as `prepare --separator`; None: repet.
    sampling: fields of `SamplingOptions`; the others are as the model is best played.
    references, vocals, instrumentals: in place of `songs`, folders of real mixes (or of songs, whose stems
      are added) and of isolated vocals, and by name folders of instrumentals.
    embedding: as `get_embedding` takes it.
    seed: of the model, the intervals and the floor.

  Raises:
    InputError: not one of the two is given; folders or a model that cannot be used or do not fit.
  """
  heard = get_embedding(embedding)  # before hours of generating
  if songs or model_dir:
    if not songs:
      raise InputError("--model_dir accompanies --songs: give them, too")
    if references or vocals or instrumentals:
      raise InputError("--songs has references, vocals and instrumentals: give it, or the others")
    model_dir = model_dir or str(DEFAULT_MODEL)
    sets = _made(songs, model_dir, step, separator or "repet", sampling or {}, output_dir, seed)
  elif references and vocals and instrumentals:
    if step is not None or separator or sampling:
      raise InputError("step, separator and sampling are for --songs: nothing is made of --instrumentals")
    sets = _found(references, vocals, instrumentals, output_dir, seed)
  else:
    raise InputError("give --songs, or --references, --vocals and --instrumentals; --helpshort tells more")
  rate_hz = heard.sample_rate_hz
  known = embed_clips(_progress(sets.references(rate_hz), sets.num_references, "references"), heard)
  found = {
    name: embed_clips(_progress(mixes.read(rate_hz), len(mixes.vocals), name), heard)
    for name, mixes in sets.mixes.items()
  }
  return compare(
    known,
    found,
    heard,
    seed,
    likelihoods=sets.likelihoods,
    tracks=sets.tracks,
    reference_tracks=sets.reference_tracks,
  )


def _found(
  references: str, vocals: str, instrumentals: Mapping[str, str], output_dir: str, seed: int
) -> _Sets:
  sung, real = find_clips(vocals, "vocals"), find_mixes(references)
  mixes = {
    name: Mixes.pair(sung, find_clips(folder), f"--instrumentals={name}={folder}")
    for name, folder in instrumentals.items()
  }
  known = real.vocals if isinstance(real, Mixes) else real
  tracks, reference_tracks = tracks_of(sung, vocals), tracks_of(known, references)
  check_halves(min(len({*tracks}), len({*reference_tracks})))
  run = {
    "digest": _digest(real),  # of the songs, as for `sweep --report`
    "seed": seed,
    "sets": {name: _digest(found) for name, found in mixes.items()},
  }
  files.claim(files.make_folder(output_dir), run)
  read = real.read if isinstance(real, Mixes) else functools.partial(read_clips, real)
  return _Sets(read, len(known), mixes, {}, tracks, reference_tracks)


def _digest(clips: Clips | Mixes) -> str:
  parts = (clips.vocals, clips.instrumentals) if isinstance(clips, Mixes) else (clips,)
  return digest_files(item for part in parts for item in part.items())


def _made(
  place: str,
  model_dir: str,
  step: int | None,
  separator_spec: str,
  sampling: Mapping[str, Any],
  output_dir: str,
  seed: int,
) -> _Sets:
  songs = find_songs(place)
  tracks = [song.track for song in songs]
  check_halves(len({*tracks}))
  vocals = {song.name: song.vocals for song in songs}
  true = Mixes(vocals, {song.name: song.instrumental for song in songs})
  separator = get_separator(separator_spec)
  models = load_models(model_dir, step)
  try:
    options = dataclasses.replace(models.options, **sampling)
  except TypeError as error:
    raise InputError(f"evaluate.sampling = {dict(sampling)}: {error}") from error
  output = files.make_folder(output_dir)
  run = {
    "songs": [song.name for song in songs],
    "digest": _digest(true),
    "separator": separator.describe(),
    "seed": seed,
    "options": vars(options),
    **models.describe(),
  }
  files.claim(output, run)
  keep_compiled_programs()
  maker = making.Maker(folder=output, seed=seed)
  accompany = making.accompany_with(Accompanist(models), options)
  mixes, likelihoods = {}, {}
  for name, heard in {"isolated": making.isolated, "separated": making.separated(separator)}.items():
    rows = []
    for index, song in enumerate(_progress(songs, len(songs), f"accompaniments, {name}")):
      song_seed = maker.seed_of(index)
      waveform, rate_hz = heard(song, song_seed)
      maker.kept(name, song, rate_hz, lambda: accompany(waveform, rate_hz, song_seed))  # noqa: B023
      rows.append(likelihood.encode(models, waveform, song.read_instrumental(rate_hz), rate_hz, song_seed))
    mixes[name] = Mixes(vocals, {song.name: maker.path(name, song) for song in songs})
    likelihoods[name] = found = likelihood.likelihood(models, rows)
    if too_short := found.too_short if found else len(rows):
      print(
        f"likelihoods, {name}: {too_short} clips have no whole window, and count nothing", file=sys.stderr
      )
  return _Sets(true.read, len(songs), mixes, likelihoods, tracks, tracks)


def _progress(clips: Iterable, total: int, what: str) -> Iterable:
  return tqdm.tqdm(clips, total=total, desc=what, unit="clip")
