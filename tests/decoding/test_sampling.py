"""The choice of an id, with stand-ins for the network: distribution, determinism, rows, options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from singsong_jax.decoding.engine import generate_tokens
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError

LOGITS = jnp.array([1.0, 0.0, 2.0, -1.0])
STARTS = np.array([2, 6, 6])


class Fixed:
  """A network with the same logits at every position."""

  def init_cache(self):
    return jnp.zeros(())

  def grow(self, cache, length):
    return cache

  def extend(self, tokens, position, cache):
    return jnp.zeros((*tokens.shape, 1)), cache

  def logits(self, x, first_id, num_ids):
    return jnp.broadcast_to(LOGITS, (x.shape[0], num_ids))


class Counting(Fixed):
  """Likeliest by far is `last token + position + block start`, modulo the block."""

  def extend(self, tokens, position, cache):
    return (tokens + position)[..., None].astype(jnp.float32), cache

  def logits(self, x, first_id, num_ids):
    wanted = (x[:, 0].astype(jnp.int32) + first_id) % num_ids
    return 100 * jax.nn.one_hot(wanted, num_ids)


@functools.partial(jax.jit, static_argnames=("rows", "options", "network"))
def sample(rng, rows=1, options=SamplingOptions(), network=Fixed()):
  return generate_tokens(
    network, block_starts=STARTS, block_size=4, rows=rows, rng=rng, options=options, bos_id=1
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
  ids = sample(jax.random.key(0), 1, SamplingOptions(greedy=True), Counting())
  # (1+0+2)%4 = 3 → 5; (5+1+6)%4 = 0 → 6; (6+2+6)%4 = 2 → 8
  assert ids.tolist() == [[5, 6, 8]]


def test_top_p_keeps_the_fewest_that_reach_p():
  probabilities = expected(0.85) / 6000  # of codes 2, 0, 1, 3: 0.70, 0.22, 0.07, 0.02
  assert probabilities[2] < 0.9 < probabilities[2] + probabilities[0]
  counts = frequencies(top_p=0.9)
  assert counts[1] == counts[3] == 0
  kept = probabilities[[0, 2]] / probabilities[[0, 2]].sum() * 6000
  assert stats.chisquare(counts[[0, 2]], kept).pvalue > 1e-3
  assert frequencies(top_p=0.5).tolist() == [0, 0, 6000, 0]


@pytest.mark.parametrize(
  "settings",
  [
    {"temperature": 0.0},
    {"temperature": float("nan")},
    {"top_k": -1},
    {"top_p": 0.0},
    {"guidance_scale": -1.0},
  ],
)
def test_bad_options_are_refused(settings):
  with pytest.raises(InputError, match=next(iter(settings))):
    SamplingOptions(**settings)
