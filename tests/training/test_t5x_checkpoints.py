"""t5x's checkpoints and ours, each out of the other; t5x itself reads them in test_t5x_trainer.py."""

import jax
import numpy as np
import pytest
from toy_system import ToySystem, toy_batch

from singsong_jax.errors import InputError
from singsong_jax.training import optimizers, t5x_checkpoints
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps


def make_steps(optimizer=None, width=8):
  optimizer = optimizer or optimizers.adafactor(
    min_dim_size_to_factor=8
  )  # so that the toy's matrices are factored
  return Steps(ToySystem(width), optimizer, Partitioner(), seed=0, num_microbatches=1)


@pytest.fixture(scope="module")
def state():
  steps = make_steps()
  return steps.train(steps.init(), toy_batch(0))[0]


def test_what_t5x_keeps_of_a_parameter(state):
  tree = t5x_checkpoints.to_t5x(state)
  assert tree["target"] is state.params and int(tree["state"]["step"]) == 1
  moments = tree["state"]["param_states"]["head"]  # of [8, 20]
  assert {name: x.shape for name, x in moments.items()} == {
    "v_row": (8,),
    "v_col": (20,),
    "v": (1,),
    "m": (1,),
  }
  assert moments["v_row"].min() > 0


def test_there_and_back(state, tmp_path):
  path = t5x_checkpoints.write_t5x(tmp_path, state)
  assert path == tmp_path / "checkpoint_1"
  for place in (path, tmp_path):  # itself, or the newest in a folder
    back = t5x_checkpoints.read_t5x(place, make_steps().abstract_state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_the_newest_is_by_number(state, tmp_path):
  for step in (9, 10):
    t5x_checkpoints.write_t5x(tmp_path, state.replace(step=jax.numpy.asarray(step)))
  assert int(t5x_checkpoints.read_t5x(tmp_path, make_steps().abstract_state).step) == 10


def test_what_does_not_fit_is_refused(state, tmp_path):
  with pytest.raises(InputError, match="is no t5x checkpoint and holds none"):
    t5x_checkpoints.read_t5x(tmp_path, make_steps().abstract_state)
  t5x_checkpoints.write_t5x(tmp_path, state)
  with pytest.raises(
    InputError, match=r"of another model or optimizer: target/head has shape \(8, 20\), expected \(16, 20\)"
  ):
    t5x_checkpoints.read_t5x(tmp_path, make_steps(width=16).abstract_state)
  with pytest.raises(InputError, match="exists already"):
    t5x_checkpoints.write_t5x(tmp_path, state)


def test_another_optimizer_is_refused():
  frozen = optimizers.freeze(["head"], optimizers.adafactor())
  with pytest.raises(InputError, match="other state than t5x's Adafactor"):
    t5x_checkpoints.to_t5x(make_steps(frozen).init())
