import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation import likelihood
from singsong_jax.inference.models import load_models

RATE_HZ = 16_000


def clip(seed, seconds=2.5):
  return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def models(model_dir):
  return load_models(model_dir)


def test_rows_are_whole_windows_as_in_training(models):
  rows = likelihood.encode(models, clip(0), clip(1), RATE_HZ)
  layout = models.coarse.system.target_layout
  assert rows["encoder_input_tokens"].shape == (2, 25)
  assert rows["decoder_target_tokens"].shape == (2, layout.length)
  assert (rows["decoder_input_tokens"][:, 0] == 1).all()
  np.testing.assert_array_equal(rows["decoder_input_tokens"][:, 1:], rows["decoder_target_tokens"][:, :-1])
  semantic, coarse = layout.decode(rows["decoder_target_tokens"])
  heard = clip(1)[: 2 * RATE_HZ].reshape(2, RATE_HZ)
  np.testing.assert_array_equal(semantic, models.tokenizers.semantics.encode(heard))
  np.testing.assert_array_equal(coarse, models.tokenizers.codec.encode(heard)[..., :4])


def test_it_is_the_mean_of_what_the_loss_reports_however_it_is_batched(models):
  clips = [likelihood.encode(models, clip(i), clip(10 + i), RATE_HZ) for i in range(3)]
  whole = {name: np.concatenate([rows[name] for rows in clips]) for name in clips[0]}
  system, params = models.coarse.system, models.coarse.params
  total, weight = system.loss(params, whole, None)[1]["nll_coarse"]
  for batch_size in (1, 4, 8):
    found = likelihood.likelihood(models, clips, batch_size)
    assert found.windows == 6
    assert found.nll == pytest.approx(float(total / weight), rel=1e-5)
    assert found.nll_masked < found.nll


def test_an_untrained_model_is_about_as_good_as_chance(models):
  found = likelihood.likelihood(models, [likelihood.encode(models, clip(0), clip(1), RATE_HZ)])
  assert found.nll_masked == pytest.approx(np.log(16), abs=1.0)


def test_clips_shorter_than_a_window_count_nothing(models):
  short, whole = (likelihood.encode(models, clip(0, seconds), clip(1), RATE_HZ) for seconds in (0.5, 2.5))
  assert short is None
  found, alone = (likelihood.likelihood(models, rows) for rows in ([short, whole], [whole]))
  assert (found.nll, found.windows, found.too_short) == (alone.nll, alone.windows, 1)
  assert likelihood.likelihood(models, [short]) is None


def test_what_has_no_likelihood(models):
  with pytest.raises(InputError, match="no clips"):
    likelihood.likelihood(models, [])
