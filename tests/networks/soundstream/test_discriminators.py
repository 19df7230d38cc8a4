"""Discriminators: shapes that follow from the paper's strides, and the hinge losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.networks.soundstream import discriminators as judges
from singsong_jax.networks.soundstream.discriminators import DiscriminatorConfig, Discriminators, Judgement


def test_the_papers_discriminators():
  config = DiscriminatorConfig()
  waveform = jax.ShapeDtypeStruct((2, 16_000), jnp.float32)
  variables = jax.eval_shape(Discriminators(config).init, jax.random.key(0), waveform)
  judgements = jax.eval_shape(Discriminators(config).apply, variables, waveform)
  assert len(judgements) == 4
  # 4 layers of stride 4 at each of three rates.
  assert [j.logits.shape for j in judgements[:3]] == [(2, 63), (2, 32), (2, 16)]
  assert [f.shape[-1] for f in judgements[0].features] == [16, 64, 256, 1024, 1024, 1024]
  # 63 frames of the STFT, three strides of 2 in time; of 512 frequencies 8 are left and collapsed.
  assert judgements[3].logits.shape == (2, 8)
  assert [f.shape[-1] for f in judgements[3].features] == [32, 64, 128, 128, 256, 256]
  assert judgements[3].features[-1].shape[2] == 8


def judgement(logits, feature=0.0):
  return Judgement(jnp.array(logits), (jnp.full((len(logits), 3, 2), feature),))


def test_hinge_losses_by_hand():
  real = [judgement([[2.0, 0.0]]), judgement([[0.5]])]
  fake = [judgement([[-2.0, 0.0]]), judgement([[0.5]])]
  # max(0, 1 − D(x)): (0 + 1)/2 and 0.5; max(0, 1 + D(x̂)): (0 + 1)/2 and 1.5; mean of the two networks.
  np.testing.assert_allclose(judges.discriminator_loss(real, fake), [(1.0 + 2.0) / 2])
  np.testing.assert_allclose(judges.adversarial_loss(fake), [(2.0 + 0.5) / 2])


def test_the_feature_loss_is_a_mean_over_layers_and_moves_the_decoded_only():
  real, fake = (
    [judgement([[0.0]], 1.0), judgement([[0.0]], 2.0)],
    [judgement([[0.0]], 3.0), judgement([[0.0]], 2.5)],
  )
  np.testing.assert_allclose(judges.feature_loss(real, fake), [(2.0 + 0.5) / 2])
  of_real = lambda x: jnp.sum(judges.feature_loss([Judgement(real[0].logits, (x,))], fake[:1]))
  np.testing.assert_array_equal(jax.grad(of_real)(real[0].features[0]), np.zeros((1, 3, 2)))


@pytest.mark.parametrize("change", [{"stft_windows": (1000,)}, {"waveform_scales": 0, "stft_windows": ()}])
def test_impossible_sizes(change):
  with pytest.raises(InputError, match=r"stft_windows|discriminators"):
    DiscriminatorConfig(**change)
