"""Fréchet distances while training, and an end when they no longer fall (SingSong Table 1: FAD on
MUSDB18-dev).

In gin, beside what the system's file has:

    CALLBACKS = [@AudioSamples(), @FadEarlyStopping()]
    FadEarlyStopping.songs = 'DEV'
    FadEarlyStopping.embedding = 'vggish:vggish-10086976.pth'

needs `import singsong_jax.evaluation.early_stopping`. Runs of several processes were not tried.
"""

import json
import pathlib
from typing import Any

import gin
import jax
import numpy as np
from jax.experimental import multihost_utils

from singsong_jax import files
from singsong_jax.audio.resampling import resample
from singsong_jax.audio.separation.base import get_separator
from singsong_jax.errors import InputError
from singsong_jax.evaluation import likelihood, making
from singsong_jax.evaluation.embeddings import get_embedding
from singsong_jax.evaluation.frechet import Gaussian, frechet_distance
from singsong_jax.evaluation.songs import digest, find_songs, some
from singsong_jax.evaluation.table import embed_clips
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.models import Model, Models
from singsong_jax.inference.tokenizers import FOLDER, load_tokenizers, ship_tokenizers
from singsong_jax.training.exported import write_exported

BEST_FOLDER = "best"  # in the model directory: the exported parameters of the least FADi
_RECORD = "early_stopping.json"


@gin.configurable
class FadEarlyStopping:
  """Training callback: at every evaluation, what the model plays for songs of a dev set is compared with
  them.

  Records `fad_isolated`, `nll_isolated` (where songs are as long as a window) and, with a separator,
  `fad_separated`, `nll_separated` and `fad_gap` (Δ) among the evaluation's scalars. The parameters of the
  least `fad_isolated` are kept in `best/`, a folder that inference takes. It comes after `AudioSamples`,
  which ships the tokenisers.

  Args:
    songs: folder of songs with stems, never those that will be reported on.
    embedding: as `evaluate --embedding`.
    separator: as `prepare --separator`; None asks for isolated vocals only.
    patience: evaluations without a new least distance after which the run ends; 0 never ends it.
    max_songs: the first ones alone, or the first clips of all songs; None takes all.
    seed: of noise and sampling, the same at every step.
  """

  def __init__(
    self,
    *,
    songs: str,
    embedding: str = "logmel",
    separator: str | None = None,
    patience: int = 5,
    max_songs: int | None = None,
    seed: int = 0,
  ):
    if patience < 0:
      raise InputError(f"FadEarlyStopping.patience={patience}: at least 0 is needed")
    self._songs = some(find_songs(songs), max_songs)
    self._embedding = get_embedding(embedding)
    self._heard = {"isolated": making.isolated}
    separates = get_separator(separator) if separator else None
    if separates:
      self._heard["separated"] = making.separated(separates)
    self._patience, self._seed = patience, seed
    measured = {
      "embedding": self._embedding.describe(),
      "songs": digest(self._songs),
      "separator": separates and separates.describe(),
      "seed": seed,
    }
    self._measured = json.loads(files.to_json(measured))  # as it comes back
    self._real: Gaussian | None = None

  def on_start(self, model_dir: str, system) -> str | None:
    """Why the run has ended already, if it has.

    Raises:
      InputError: distances in the folder are by another embedding, or of other songs.
    """
    self._folder, self._system = pathlib.Path(model_dir), system
    path = self._folder / _RECORD
    self._record: dict[str, Any] = {"fads": {}, "measured": self._measured}
    if path.exists():
      self._record = files.read_json(path)
      known = self._record.get("measured", {})
      if differing := sorted(name for name, value in self._measured.items() if known.get(name) != value):
        raise InputError(
          f"{path} has distances that were measured otherwise ({', '.join(differing)} of FadEarlyStopping "
          f"differ): give the former settings, or delete it and {BEST_FOLDER}/ to begin anew"
        )
    return self._verdict()

  def on_eval(self, step: int, params, eval_batch, writer) -> str | None:
    """Measures; returns why the run should end, if it should."""
    tokenizers = load_tokenizers(self._folder / FOLDER)
    models = Models(Model(self._system, params, step), None, tokenizers, self._folder)
    found = {}
    for name, heard in self._heard.items():
      found[f"fad_{name}"], nll = self._measure(models, heard)
      if nll:
        found[f"nll_{name}"] = nll.nll
    if "fad_separated" in found:
      found["fad_gap"] = found["fad_isolated"] - found["fad_separated"]
    writer.write_scalars(step, found)
    fads = self._record["fads"]
    is_best = found["fad_isolated"] < min(fads.values(), default=float("inf"))
    fads[str(step)] = found["fad_isolated"]
    whole = multihost_utils.process_allgather(params, tiled=True) if is_best else None
    if jax.process_index() == 0:
      if is_best:
        ship_tokenizers(self._folder / FOLDER, self._folder / BEST_FOLDER)
        write_exported(self._folder / BEST_FOLDER, self._system, whole, step)
      files.write_json(self._folder / _RECORD, self._record)
    return self._verdict()

  def _measure(self, models: Models, heard: making.Vocals) -> tuple[float, likelihood.Likelihood | None]:
    accompany = making.accompany_with(Accompanist(models))
    rate_hz = self._embedding.sample_rate_hz
    mixes, true, rows = [], [], []
    for index, song in enumerate(self._songs):
      isolated, sung_hz = song.read_vocals()
      waveform, heard_hz = heard(song, seed := self._seed + index)
      played = accompany(waveform, heard_hz, seed)
      voice = resample(isolated, sung_hz, rate_hz)
      for mixed, instrumental in (
        (mixes, resample(played, heard_hz, rate_hz)),
        (true, song.read_instrumental(rate_hz)),
      ):
        length = min(len(voice), len(instrumental))
        mixed.append((song.name, voice[:length] + instrumental[:length]))
      rows.append(likelihood.encode(models, waveform, song.read_instrumental(heard_hz), heard_hz, seed))
    if self._real is None:
      self._real = Gaussian.of(np.concatenate(embed_clips(iter(true), self._embedding)))
    vectors = np.concatenate(embed_clips(iter(mixes), self._embedding))
    return frechet_distance(Gaussian.of(vectors), self._real), likelihood.likelihood(models, rows)

  def _verdict(self) -> str | None:
    fads = sorted(self._record["fads"].items(), key=lambda item: int(item[0]))
    if not self._patience or not fads:
      return None
    best = min(range(len(fads)), key=lambda i: fads[i][1])
    if len(fads) - 1 - best < self._patience:
      return None
    step, fad = fads[best]
    return (
      f"FADi has not fallen below {fad:.3f}, that of step {step}, in {len(fads) - 1 - best} evaluations; its "
      f"parameters are in {self._folder / BEST_FOLDER}"
    )
