"""Exported models: what is written comes back in half precision, and unfit files are refused."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from singsong_jax.errors import InputError
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems import system_from_description
from singsong_jax.systems.singsong import SingSong
from singsong_jax.training import exported
from singsong_jax.training.fine_tuning import InitialCheckpoint
from singsong_jax.training.state import init_state

SYSTEM = SingSong(
  network=EncoderDecoderConfig(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dtype="float32",
  )
)


@pytest.fixture(scope="module")
def params():
  return nn.unbox(jax.jit(SYSTEM.init)(jax.random.key(1)))


@pytest.fixture
def folder(tmp_path, params):
  exported.write_exported(tmp_path, SYSTEM, params, 7)
  return tmp_path


def test_parameters_come_back_to_half_precision(folder, params):
  assert exported.is_exported(folder)
  system, found, step = exported.load_exported(folder, system_from_description)
  assert (system, step) == (SYSTEM, 7)
  for given, back in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, np.asarray(given).astype(np.float16).astype(np.float32))


def test_a_run_may_begin_with_it(folder, params):
  initial = InitialCheckpoint(str(folder))
  assert initial.check(SYSTEM) == f"the parameters of {folder}"
  state = initial(init_state(SYSTEM, optax.sgd(0.1), 0))
  kernel = state.params["decoder"]["layers_0"]["mlp"]["wo"]["kernel"]
  assert np.abs(kernel - params["decoder"]["layers_0"]["mlp"]["wo"]["kernel"]).max() < 1e-3


def test_another_models_parameters_are_named(folder):
  network = dataclasses.replace(SYSTEM.network, mlp_dim=32)
  exported.write_description(folder, dataclasses.replace(SYSTEM, network=network))
  with pytest.raises(InputError, match=r"wi_0/kernel has shape \(16, 24\), the model wants \(16, 32\)"):
    exported.load_exported(folder, system_from_description)


def test_a_damaged_file_is_an_input_error(folder):
  path = folder / exported.FILE
  path.write_bytes(path.read_bytes()[:1000])
  with pytest.raises(InputError, match="cannot be read"):
    exported.load_exported(folder, system_from_description)


def test_what_half_precision_cannot_hold_is_refused(tmp_path, params):
  huge = jax.tree.map(lambda x: x + 1e6, params)
  with pytest.raises(InputError, match="float16 ends at 65504"):
    exported.write_exported(tmp_path, SYSTEM, huge, 0)
  assert not exported.is_exported(tmp_path)
