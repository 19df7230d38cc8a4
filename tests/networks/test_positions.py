"""Sinusoids by hand, and the relative bias's buckets and Toeplitz form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from singsong_jax.networks import attention, positions
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig

SIZES = dict(emb_dim=8, num_heads=2, head_dim=4, mlp_dim=8, num_encoder_layers=1, num_decoder_layers=1)


def test_sinusoids_by_hand():
  table = positions.sinusoids(3, 6)
  rates = [1.0, 0.01, 0.0001]
  for position in range(3):
    expected = [np.sin(position * r) for r in rates] + [np.cos(position * r) for r in rates]
    np.testing.assert_allclose(table[position], expected, atol=1e-7)
  assert table.dtype == np.float32


def test_sinusoids_do_not_depend_on_the_length():
  np.testing.assert_array_equal(positions.sinusoids(2250, 8)[:10], positions.sinusoids(10, 8))


def test_bidirectional_buckets():
  offsets = np.array([0, -1, -7, -8, -127, -500, 1, 7, 500])
  buckets = positions.relative_buckets(offsets, bidirectional=True)
  assert buckets.tolist() == [0, 1, 7, 8, 15, 15, 17, 23, 31]


def test_causal_buckets():
  offsets = np.array([5, 0, -1, -15, -16, -20, -127, -500])
  buckets = positions.relative_buckets(offsets, bidirectional=False)
  assert buckets.tolist() == [0, 0, 1, 15, 16, 17, 31, 31]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_matrix_holds_each_offsets_number(bidirectional):
  module = positions.RelativePositionBias(2, bidirectional, np.dtype("float32"))
  length = 40
  params = nn.meta.unbox(module.init(jax.random.key(0), length))
  bias = module.apply(params, length)
  assert bias.shape == (1, 2, length, length)
  offsets = np.arange(length) - np.arange(length)[:, None]
  buckets = positions.relative_buckets(offsets, bidirectional=bidirectional)
  np.testing.assert_array_equal(bias[0], params["params"]["rel_embedding"][:, buckets])
  by_offset = module.apply(params, length, method="by_offset")
  np.testing.assert_array_equal(by_offset[:, length - 1 + 5], bias[0, :, 3, 8])


def test_bias_of_a_single_position():
  module = positions.RelativePositionBias(3, True, np.dtype("float32"))
  bias, params = module.init_with_output(jax.random.key(0), 1)
  np.testing.assert_array_equal(bias[0, :, 0, 0], nn.meta.unbox(params)["params"]["rel_embedding"][:, 0])


def test_a_clock_by_hand():
  """Vocals at 0.5 and 1.5 s; targets at 0.5 and 1.5 s, then one at 0.25 s; two heads."""
  clock = positions.Clock((0.5, 1.5), (0.5, 1.5, 0.25))
  config = EncoderDecoderConfig(**SIZES, time_slopes=(1.0, 4.0))
  fall, angles = clock.encoder(config, 2)
  assert angles is None
  np.testing.assert_array_equal(fall, [[[[0, -1], [-1, 0]], [[0, -4], [-4, 0]]]])
  across = clock.across(config, 0, 3, 2).fall[0]
  np.testing.assert_array_equal(across[0], [[0, -1], [-1, 0], [-0.25, -1.25]])
  np.testing.assert_array_equal(across[1], 4 * across[0])
  # Inputs are the targets before: the beginning at 0 s, then 0.5 and 1.5 s.
  itself = clock.decoder(config, 0, 3, 3).fall[0]
  np.testing.assert_array_equal(itself[0], [[-0.5, 0, -1], [-1.5, -1, 0], [-0.25, -0.25, -1.25]])
  np.testing.assert_array_equal(clock.decoder(config, 1, 2, 3).fall[0], itself[:, 1:])


def test_angles_by_hand():
  """Two pairs of features: one turns in a quarter of a second, one in 64 s."""
  clock = positions.Clock((0.0, 16.0), (0.0625, 16.0))
  config = EncoderDecoderConfig(**SIZES, time_rotation=True)
  fall, (queries, keys) = clock.across(config, 0, 2, 2)
  assert fall is None
  turn = 2 * np.pi
  np.testing.assert_allclose(queries, [[turn / 4, turn / 1024], [64 * turn, turn / 4]], rtol=1e-6)
  np.testing.assert_allclose(keys, [[0, 0], [64 * turn, turn / 4]], rtol=1e-6)
  np.testing.assert_allclose(
    attention.rotate(jnp.array([[1, 2, 3, 4.0]]), jnp.array([[turn / 4, turn / 2]])),
    [[-3, -2, 1, -4]],
    atol=1e-6,
  )


def test_rotated_products_depend_on_distances_alone():
  clock = positions.Clock((0.5, 1.5), (2.5, 1.5))
  config = EncoderDecoderConfig(**SIZES, time_rotation=True)
  query, key = np.random.default_rng(0).standard_normal((2, 1, 4), np.float32)
  queries, keys = clock.across(config, 0, 2, 2).angles
  products = attention.rotate(query, queries) @ attention.rotate(key, keys).T
  # 2 and 1 seconds after the keys, then 1 and 0.
  np.testing.assert_allclose(products[0, 1], products[1, 0], rtol=1e-4)
  np.testing.assert_allclose(products[1, 1], (query @ key.T).item(), rtol=1e-4)
  assert abs(products[0, 0] - products[1, 1]) > 1e-3
