"""How far sets of mixes are from real ones: the numbers, a table and a picture (SingSong §4.3, Table 1)."""

import dataclasses
import pathlib
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.evaluation.embeddings import Embedding
from singsong_jax.evaluation.frechet import (
  Gaussian,
  bootstrap_interval,
  frechet_at_infinity,
  frechet_distance,
  split_half_floor,
)
from singsong_jax.evaluation.kernel_distance import kernel_audio_distance
from singsong_jax.evaluation.likelihood import Likelihood

LEAST_FOR_INFINITY = 1_000  # vectors: with hardly more than the 500 it begins at, a line goes anywhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One set against the references.

  Attributes:
    system: what the set is called.
    embedding: by which the distances are; they mean nothing without.
    clips, vectors: how many; distances of few come out too large.
    frechet: FAD.
    low, high: its 95 % interval, by drawing clips.
    frechet_at_infinity: FAD∞; None for fewer than `LEAST_FOR_INFINITY` vectors.
    kad: kernel audio distance.
    nll, nll_masked: of the true instrumentals' coarse codes, over all ids and over the legal ones; None where
    no model
      was asked.
  """

  system: str
  embedding: str
  clips: int
  vectors: int
  frechet: float
  low: float
  high: float
  frechet_at_infinity: float | None
  kad: float
  nll: float | None = None
  nll_masked: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Rows, and what half of the references have against the other half."""

  embedding: dict
  reference_clips: int
  reference_vectors: int
  floor: float
  rows: tuple[Row, ...]

  def summary(self) -> str:
    """The numbers on a few lines."""
    lines = [
      f"{row.system}: {row.embedding} Fréchet {row.frechet:.3f} ({row.low:.3f} … {row.high:.3f}), KAD "
      f"{row.kad:.3f}; {row.clips} clips, {row.vectors} vectors"
      for row in self.rows
    ]
    found = {row.system: row for row in self.rows}
    if {"isolated", "separated"} <= found.keys():
      isolated, separated = found["isolated"], found["separated"]
      lines.append(
        f"FADi {isolated.frechet:.3f}, FADs {separated.frechet:.3f}, "
        f"Δ {isolated.frechet - separated.frechet:.3f}"
      )
      if isolated.nll is not None and separated.nll is not None:
        lines.append(
          f"NLLi {isolated.nll:.3f}, NLLs {separated.nll:.3f}; among the legal codes "
          f"{isolated.nll_masked:.3f}, {separated.nll_masked:.3f}"
        )
    lines.append(f"half of the {self.reference_clips} references against the other half: {self.floor:.3f}")
    return "\n".join(lines)

  def write(self, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `results.json`, `results.csv` and `results.png`; returns their paths."""
    files.make_folder(folder)
    paths = [folder / f"results.{suffix}" for suffix in ("json", "csv", "png")]
    files.write_json(paths[0], dataclasses.asdict(self))
    columns = [field.name for field in dataclasses.fields(Row)]
    files.write_text(paths[1], files.to_csv(columns, map(dataclasses.astuple, self.rows)))
    with files.replacing(paths[2]) as temporary:
      self._figure().savefig(temporary, dpi=100)
    return paths

  def _figure(self) -> Figure:
    figure = Figure(figsize=(8, 1.8 + 0.6 * len(self.rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    middles = [row.frechet for row in self.rows]
    reach = [
      [max(0.0, row.frechet - row.low) for row in self.rows],
      [max(0.0, row.high - row.frechet) for row in self.rows],
    ]
    axes.barh([row.system for row in self.rows], middles, xerr=reach, color="tab:blue", capsize=4)
    axes.axvline(
      self.floor, color="tab:orange", linestyle="--", label="half of the references against the other"
    )
    axes.set(xlabel=f"Fréchet distance ({self.embedding['name']}), 95 % interval", xlim=(0, None))
    axes.invert_yaxis()
    figure.legend(loc="outside upper right")
    return figure


def embed_clips(clips: Iterator[tuple[str, np.ndarray]], embedding: Embedding) -> list[np.ndarray]:
  """The vectors of each clip, float32 `[n, d]`. Raises InputError for a clip that is too short to have
  one.
  """
  found = []
  for name, waveform in clips:
    vectors = embedding.embed(waveform)
    if not len(vectors):
      seconds = len(waveform) / embedding.sample_rate_hz
      raise InputError(f"clip {name!r} lasts {seconds:.2f} s: too short for {embedding.name}")
    found.append(vectors)
  return found


def compare(
  references: Sequence[np.ndarray],
  systems: Mapping[str, Sequence[np.ndarray]],
  embedding: Embedding,
  seed: int = 0,
  draws: int = 1_000,
  likelihoods: Mapping[str, Likelihood | None] | None = None,
  tracks: Sequence[Hashable] | None = None,
  reference_tracks: Sequence[Hashable] | None = None,
) -> Table:
  """Measures every system.

  Args:
    references: vectors of each real mix, `[n, d]`.
    systems: name → the same of its mixes.
    draws: for the intervals.
    likelihoods: of systems that were asked for theirs.
    tracks, reference_tracks: which song each clip is of, in every system and in the references: intervals
      and floor are of whole songs. None: each clip is a song of its own.

  Raises:
    InputError: too few clips, songs or vectors for a covariance.
  """
  known = np.concatenate(references)
  gaussian = Gaussian.of(known)
  rows = []
  for name, clips in systems.items():
    found = np.concatenate(clips)
    low, high = bootstrap_interval(_by_track(clips, tracks), gaussian, seed, draws)
    likelihood = (likelihoods or {}).get(name)
    many = len(found) >= LEAST_FOR_INFINITY
    rows.append(
      Row(
        system=name,
        embedding=embedding.name,
        clips=len(clips),
        vectors=len(found),
        frechet=frechet_distance(Gaussian.of(found), gaussian),
        low=low,
        high=high,
        frechet_at_infinity=frechet_at_infinity(found, gaussian, seed) if many else None,
        kad=kernel_audio_distance(found, known, seed),
        nll=likelihood and likelihood.nll,
        nll_masked=likelihood and likelihood.nll_masked,
      )
    )
  return Table(
    embedding=embedding.describe(),
    reference_clips=len(references),
    reference_vectors=len(known),
    floor=split_half_floor(_by_track(references, reference_tracks), seed),
    rows=tuple(rows),
  )


def _by_track(clips: Sequence[np.ndarray], tracks: Sequence[Hashable] | None) -> Sequence[np.ndarray]:
  if tracks is None:
    return clips
  together: dict[Hashable, list[np.ndarray]] = {}
  for clip, track in zip(clips, tracks, strict=True):
    together.setdefault(track, []).append(clip)
  return [np.concatenate(parts) for parts in together.values()]
