"""Identities and closed forms of the distances."""

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation.frechet import (
  Gaussian,
  bootstrap_interval,
  frechet_at_infinity,
  frechet_distance,
  split_half_floor,
)
from singsong_jax.evaluation.kernel_distance import kernel_audio_distance, median_distance


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_a_set_is_no_distance_from_itself(rng):
  for number, size in [(1_000, 16), (50, 128)]:  # more vectors than dimensions, and fewer
    some = Gaussian.of(rng.normal(size=(number, size)) * np.arange(1, size + 1))
    assert frechet_distance(some, some) < 1e-8 * np.trace(some.covariance)


def test_a_shift_costs_its_square(rng):
  vectors, shift = rng.normal(size=(500, 8)), np.arange(8.0)
  found = frechet_distance(Gaussian.of(vectors), Gaussian.of(vectors + shift))
  assert found == pytest.approx(np.sum(shift**2), rel=1e-9)


def test_diagonal_covariances():
  """Σ (√a − √b)²: (1 − 2)² + (3 − 1)² + 0."""
  one, other = (Gaussian(np.zeros(3), np.diag(values)) for values in ([1.0, 9, 4], [4.0, 1, 4]))
  assert frechet_distance(one, other) == pytest.approx(1 + 4)
  assert frechet_distance(other, one) == pytest.approx(1 + 4)


def test_covariances_that_do_not_commute(rng):
  """Against the definition, with SciPy's general square root."""
  scipy_linalg = pytest.importorskip("scipy.linalg")
  one, other = (Gaussian.of(rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))) for _ in range(2))
  root = scipy_linalg.sqrtm(one.covariance @ other.covariance).real
  expected = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance + other.covariance - 2 * root)
  assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)


def test_the_floor_falls_with_the_number_of_clips(rng):
  floors = [split_half_floor([rng.normal(size=(4, 8)) for _ in range(clips)]) for clips in (20, 80, 320)]
  assert floors[0] > 2 * floors[1] > 4 * floors[2] > 0


def test_the_interval_holds_the_truth_and_narrows(rng):
  """Clips of N(1, 1) against N(0, 1): d² = 4 in four dimensions."""
  reference = Gaussian(np.zeros(4), np.eye(4))
  widths = []
  for clips in (100, 1_000):
    vectors = [rng.normal(size=(2, 4)) + 1 for _ in range(clips)]
    low, high = bootstrap_interval(vectors, reference, draws=200)
    assert low < 4 < high
    widths.append(high - low)
  assert widths[1] < widths[0] / 2
  assert bootstrap_interval(vectors, reference, seed=1, draws=50) == bootstrap_interval(
    vectors, reference, seed=1, draws=50
  )


def test_clips_are_drawn_not_vectors(rng):
  """Vectors that are copies within a clip tell no more than one of them."""
  reference = Gaussian(np.zeros(2), np.eye(2))
  single = [rng.normal(size=(1, 2)) for _ in range(200)]
  copied = [np.repeat(clip, 10, axis=0) for clip in single]
  widths = [np.ptp(bootstrap_interval(clips, reference, draws=300)) for clips in (single, copied)]
  assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_infinity_takes_the_bias_away(rng):
  reference = Gaussian(np.zeros(32), np.eye(32))
  vectors = rng.normal(size=(2_000, 32))
  plain = frechet_distance(Gaussian.of(vectors), reference)
  assert abs(frechet_at_infinity(vectors, reference)) < plain
  with pytest.raises(InputError, match="more than 500 embeddings, found 400"):
    frechet_at_infinity(vectors[:400], reference)


def test_kernel_distance_by_hand():
  """Reference 0 and 2, so σ = 2; found 0 and 0: 1 + e^(−1/2) − 2 · (1 + 1 + 2 e^(−1/2)) / 4 = 0."""
  reference, found = np.array([[0.0], [2.0]]), np.array([[0.0], [0.0]])
  assert median_distance(reference) == 2
  kernel = np.exp(-4 / 8)
  expected = 100 * (1 + kernel - 2 * (2 + 2 * kernel) / 4)
  assert kernel_audio_distance(found, reference) == pytest.approx(expected) == pytest.approx(0)
  far = np.array([[10.0], [10.0]])
  expected = 100 * (1 + kernel - (np.exp(-100 / 8) + np.exp(-64 / 8)))
  assert kernel_audio_distance(far, reference) == pytest.approx(expected)


def test_kernel_distance_has_no_bias(rng):
  """Of equal distributions it is 0 on average, at any size; Fréchet's is not."""
  kernel, frechet = [], []
  for _ in range(40):
    one, other = rng.normal(size=(2, 30, 8))
    kernel.append(kernel_audio_distance(one, other))
    frechet.append(frechet_distance(Gaussian.of(one), Gaussian.of(other)))
  assert abs(np.mean(kernel)) < 3 * np.std(kernel) / np.sqrt(40) and min(kernel) < 0
  assert np.mean(frechet) > 0.5


def test_blocks_of_distances_change_nothing(rng, monkeypatch):
  one, other = rng.normal(size=(70, 5)), rng.normal(size=(90, 5))
  whole = kernel_audio_distance(one, other)
  monkeypatch.setattr("singsong_jax.evaluation.kernel_distance._ROWS", 16)
  assert kernel_audio_distance(one, other) == pytest.approx(whole, rel=1e-12)


def test_large_sets_are_drawn_from(rng, monkeypatch):
  """The estimate of a part is one of the whole, also of songs that are in both sets at the same places; the
  same seed draws the same.
  """
  one, other = rng.normal(size=(3_000, 4)) + 0.5, rng.normal(size=(3_000, 4))
  whole = kernel_audio_distance(one, other)
  monkeypatch.setattr("singsong_jax.evaluation.kernel_distance.MOST_VECTORS", 1_000)
  part = kernel_audio_distance(one, other)
  assert part != whole and part == pytest.approx(whole, rel=0.2)
  assert part == kernel_audio_distance(one, other) != kernel_audio_distance(one, other, seed=1)
  monkeypatch.setattr("singsong_jax.evaluation.kernel_distance.MOST_VECTORS", 100)
  alike = other + rng.normal(0, 0.01, other.shape)
  found = [kernel_audio_distance(alike, other, seed) for seed in range(60)]
  assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(60)


def test_what_cannot_be_compared(rng):
  good = rng.normal(size=(10, 4))
  with pytest.raises(InputError, match=r"shape \(1, 4\); a covariance takes"):
    Gaussian.of(good[:1])
  with pytest.raises(InputError, match="1 embeddings are not finite"):
    Gaussian.of(np.where(np.arange(10)[:, None] == 3, np.nan, good))
  with pytest.raises(InputError, match="of 4 and of 3 dimensions"):
    frechet_distance(Gaussian.of(good), Gaussian.of(good[:, :3]))
  with pytest.raises(InputError, match="of 3 and of 4 dimensions"):
    kernel_audio_distance(good[:, :3], good)
  with pytest.raises(InputError, match="median distance is 0"):
    kernel_audio_distance(good, np.zeros((5, 4)))
  with pytest.raises(InputError, match="3 clips cannot be halved"):
    split_half_floor([good] * 3)


def test_the_public_packages_give_the_same():
  """Numbers of frechet-audio-distance 0.3.4, fadtk 1.1.0 and kadtk 1.1.0 (in float64) on these vectors, once.

  kadtk's `score` takes the kernel's width from the evaluated set; it was given the sets the other way round,
  too.
  """
  rng = np.random.default_rng(20261128)
  mixing = rng.normal(size=(16, 16)) / 4
  real = (rng.normal(size=(600, 16)) @ mixing).astype(np.float32)
  made = (rng.normal(size=(400, 16)) @ (mixing + 0.1 * rng.normal(size=(16, 16))) + 0.2).astype(np.float32)
  found = frechet_distance(Gaussian.of(made), Gaussian.of(real))
  assert found == pytest.approx(2.3392526008158754, rel=1e-8)  # frechet-audio-distance
  assert found == pytest.approx(2.3392526008195773, rel=1e-8)  # fadtk
  assert kernel_audio_distance(made, real) == pytest.approx(1.8320406787084353, rel=1e-5)
  assert kernel_audio_distance(real, made) == pytest.approx(1.5811451616548178, rel=1e-5)
