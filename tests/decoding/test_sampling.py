"""The sampling loop on a stand-in for the network: distribution, determinism, rows, top-k, greedy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from singsong_jax.decoding.sampling import SamplingOptions, sample_tokens
from singsong_jax.errors import InputError

LOGITS = jnp.array([1.0, 0.0, 2.0, -1.0])
STARTS = np.array([2, 6, 6])


def fixed_step(token, position, cache, block_start, block_size):
  """The same logits at every position; the cache counts the steps."""
  return jnp.broadcast_to(LOGITS, (token.shape[0], block_size)), cache + 1


@functools.partial(jax.jit, static_argnames=("batch_size", "options", "step"))
def sample(rng, batch_size=1, options=SamplingOptions(), step=fixed_step):
  return sample_tokens(
    step,
    jnp.zeros((), jnp.int32),
    block_starts=STARTS,
    block_size=4,
    batch_size=batch_size,
    rng=rng,
    options=options,
    bos_id=1,
  )


def frequencies(**options):
  """How often each of the 4 codes was drawn, of 6000 draws."""
  ids = sample(jax.random.key(0), 2000, SamplingOptions(**options))
  return np.bincount(np.asarray(ids - STARTS).ravel(), minlength=4)


def expected(temperature):
  weights = np.exp(np.asarray(LOGITS, np.float64) / temperature)
  return weights / weights.sum() * 6000


@pytest.mark.parametrize("temperature", [0.85, 2.0])
def test_codes_follow_the_tempered_softmax(temperature):
  assert stats.chisquare(frequencies(temperature=temperature), expected(temperature)).pvalue > 1e-3


def test_the_chi_square_test_can_tell_another_temperature():
  assert stats.chisquare(frequencies(), expected(1.0)).pvalue < 1e-3


def test_top_k_keeps_the_likeliest_and_their_proportions():
  counts = frequencies(top_k=2)
  assert counts[1] == counts[3] == 0
  odds = np.exp(1 / 0.85)
  assert stats.chisquare(counts[[0, 2]], 6000 / (1 + odds) * np.array([1, odds])).pvalue > 1e-3


def test_top_k_beyond_the_block_is_no_restriction():
  np.testing.assert_array_equal(frequencies(top_k=99), frequencies())


def test_greedy_takes_the_likeliest_whatever_the_seed():
  for seed in range(3):
    ids = sample(jax.random.key(seed), 2, SamplingOptions(greedy=True))
    assert ids.tolist() == [[4, 8, 8]] * 2


def test_the_seed_decides():
  again = [sample(jax.random.key(seed), 8).tolist() for seed in (0, 0, 1)]
  assert again[0] == again[1] != again[2]


def test_rows_and_positions_draw_independently():
  ids = np.asarray(sample(jax.random.key(0), 2000) - STARTS)
  for a, b in ((ids[:-1, 0], ids[1:, 0]), (ids[:, 1], ids[:, 2])):
    table = np.histogram2d(a, b, bins=4)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_row_does_not_depend_on_its_batch():
  keys = jax.random.split(jax.random.key(0), 5)
  batch = sample(keys, 5)
  for i in range(5):
    np.testing.assert_array_equal(sample(keys[i : i + 1], 1)[0], batch[i])
  rng = jax.random.key(3)
  np.testing.assert_array_equal(sample(rng, 2), sample(rng, 5)[:2])


def test_each_step_sees_the_last_token_its_position_and_block():
  def step(token, position, cache, block_start, block_size):
    """Greedy picks `last token + position + block start`, modulo the block."""
    wanted = (token + position + block_start) % block_size
    return jax.nn.one_hot(wanted, block_size), cache

  ids = sample(jax.random.key(0), 1, SamplingOptions(greedy=True), step)
  # (1+0+2)%4 = 3 → 5; (5+1+6)%4 = 0 → 6; (6+2+6)%4 = 2 → 8
  assert ids.tolist() == [[5, 6, 8]]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": float("nan")}, {"top_k": -1}])
def test_bad_options_are_refused(settings):
  with pytest.raises(InputError, match=next(iter(settings))):
    SamplingOptions(**settings)
