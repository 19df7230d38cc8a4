import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training.optimizers import adafactor
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps, split_rows


def make_steps(num_microbatches=1, dropout_rate=0.0, seed=0, **options):
  system = toy_system.ToySystem(dropout_rate=dropout_rate)
  return Steps(system, adafactor(), Partitioner(), seed=seed, num_microbatches=num_microbatches, **options)


@pytest.mark.parametrize("num_microbatches", [2, 4, 8])
def test_microbatches_are_the_full_batch(num_microbatches):
  """Weights differ between rows, so a mean of the microbatches' means would be another number."""
  batch = toy_system.toy_batch(0)
  results = []
  for count in (1, num_microbatches):
    steps = make_steps(count)
    results.append(steps.train(steps.init(), batch))
  (whole, whole_sums), (parts, parts_sums) = results
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), whole.params, parts.params
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole_sums, parts_sums)


def test_gradient_is_of_the_mean_over_weighted_tokens():
  """Worked out here without the trainer: d/dparams of sum(nll·w) / sum(w)."""
  steps, batch = make_steps(), toy_system.toy_batch(0)
  state = steps.init()

  def mean_loss(params):
    x = params["embedding"][batch["inputs"]] @ params["head"]
    nll = jax.nn.logsumexp(x, -1) - jnp.take_along_axis(x, batch["targets"][..., None], -1)[..., 0]
    return jnp.sum(nll * batch["weights"]) / np.sum(batch["weights"])

  gradient = jax.grad(mean_loss)(state.params)
  norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient)))
  _, sums = steps.train(state, batch)
  np.testing.assert_allclose(sums["gradient_norm"][0], norm, rtol=1e-5)


def test_split_rows_deals_rows_like_cards():
  rows = jnp.arange(6)[:, None]
  split = jax.jit(lambda x: split_rows(x, 3, Partitioner()))({"x": rows})["x"]
  assert split[..., 0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_dropout_depends_on_seed_and_step_only():
  batch, params = toy_system.toy_batch(0), make_steps().init().params

  def losses(seed):
    steps = make_steps(num_microbatches=2, dropout_rate=0.5, seed=seed)
    state, values = steps.init(), []
    for _ in range(2):
      state = state.replace(params=jax.tree.map(jnp.copy, params))  # so that only the dropout differs
      state, sums = steps.train(state, batch)
      values.append(float(sums["loss"][0]))
    return values

  first = losses(seed=0)
  assert first == losses(seed=0)
  assert len({*first, *losses(seed=1)}) == 4


def test_every_microbatch_has_its_own_dropout():
  """Two equal rows, one a microbatch: with one shared mask their losses would be equal."""
  row = toy_system.toy_batch(0, batch_size=1)
  batch = {name: np.repeat(array, 2, axis=0) for name, array in row.items()}
  alone, both = make_steps(1, 0.5), make_steps(2, 0.5)
  single = float(alone.train(alone.init(), row)[1]["loss"][0])
  double = float(both.train(both.init(), batch)[1]["loss"][0])
  assert abs(double - 2 * single) > 1e-3


def test_evaluation_has_no_dropout_and_adds_up():
  steps = make_steps(dropout_rate=0.5)
  params, batch = steps.init().params, toy_system.toy_batch(0)
  halves = [{k: v[rows] for k, v in batch.items()} for rows in (slice(0, 3), slice(3, 8))]
  whole = steps.evaluate(params, batch)["loss"]
  parts = [steps.evaluate(params, half)["loss"] for half in halves]
  np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-6)


def broken_batch():
  batch = toy_system.toy_batch(0)
  return batch | {"weights": np.zeros_like(batch["weights"])}  # 0 / 0


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_a_skipped_step_changes_nothing_but_the_count(num_microbatches):
  steps = make_steps(num_microbatches, skip_nonfinite=True)
  before = jax.device_get(steps.init())
  after, sums = steps.train(steps.init(), broken_batch())
  assert not np.isfinite(sums["gradient_norm"][0]) and int(after.step) == 1
  jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
  jax.tree.map(np.testing.assert_array_equal, before.opt_state, after.opt_state)


def test_a_step_whose_update_is_not_finite_is_skipped():
  optimizer, options = adafactor(lambda step: jnp.inf), {"num_microbatches": 1, "skip_nonfinite": True}
  steps = Steps(toy_system.ToySystem(), optimizer, Partitioner(), seed=0, **options)
  before = jax.device_get(steps.init())
  after, sums = steps.train(steps.init(), toy_system.toy_batch(0))
  assert np.isfinite(sums["gradient_norm"][0]) and not np.isfinite(sums["update_norm"][0])
  jax.tree.map(np.testing.assert_array_equal, before.params, after.params)


def test_a_finite_step_is_the_same_with_and_without_skipping():
  results = [make_steps(skip_nonfinite=skip) for skip in (False, True)]
  results = [steps.train(steps.init(), toy_system.toy_batch(0))[0] for steps in results]
  jax.tree.map(np.testing.assert_array_equal, *results)


def test_partitions_must_divide_the_devices():
  with pytest.raises(
    InputError, match=f"num_partitions=3 × fsdp=1 does not divide the {jax.device_count()} devices"
  ):
    Partitioner(3)


def test_batch_must_divide_into_microbatches():
  with pytest.raises(InputError, match="batch size 8 does not divide into 3 microbatches"):
    Partitioner().check_batch_size(8, 3)
