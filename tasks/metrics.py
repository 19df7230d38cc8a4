"""SeqIO metric functions of generated token sequences; all fractions are in 0 … 1."""

from collections.abc import Callable, Sequence

import numpy as np

from singsong_jax.tokens.featurization import SequenceLayout

MetricFn = Callable[[Sequence, Sequence], dict[str, float]]


def token_accuracy(targets: Sequence, predictions: Sequence) -> dict[str, float]:
  """Share of positions with the target's id. Sequences `[T]`, of equal length in each pair."""
  equal = [np.asarray(target) == _like(target, ids) for target, ids in zip(targets, predictions, strict=True)]
  return {"token_accuracy": float(np.mean(np.concatenate(equal)))}


def legal_fraction(layout: SequenceLayout) -> MetricFn:
  """A metric: share of positions whose id lies in the block that belongs there; 1 by construction."""
  starts, stops = layout.block_starts, layout.block_starts + layout.block_sizes

  def legal_fraction(targets: Sequence, predictions: Sequence) -> dict[str, float]:
    del targets
    ids = np.stack([_like(starts, ids) for ids in predictions])  # [N, T]
    return {"legal_fraction": float(np.mean((ids >= starts) & (ids < stops)))}

  return legal_fraction


def _like(target: Sequence, prediction: Sequence) -> np.ndarray:
  prediction = np.asarray(prediction)
  if prediction.shape != np.shape(target):
    raise ValueError(f"a prediction has shape {prediction.shape}, expected {np.shape(target)}")
  return prediction
