"""What the paper does not have and `SingSong` may: hidden inputs, lockstep, attention in time."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.systems import system_from_description
from singsong_jax.tokens.vocabulary import BOS_ID
from singsong_jax.tokens.windows import Geometry
from tests.systems.test_singsong import NETWORK, batch_for, full_forward, params_of, toy


@pytest.mark.slow
def test_hiding_is_for_training_alone_and_leaves_the_rest_as_it_is():
  plain, hiding = toy(), dataclasses.replace(toy(), hidden=(0.5, 0.5))
  batch, params, key = batch_for(plain, 8), params_of(plain), jax.random.key(3)
  for system in (plain, hiding):
    assert float(system.loss(params, batch, None)[0]) == float(plain.loss(params, batch, None)[0])
  assert float(hiding.loss(params, batch, key)[0]) != float(plain.loss(params, batch, key)[0])
  tokens = batch["decoder_input_tokens"]
  seen = np.asarray(hiding._partly_hidden(jnp.asarray(tokens), key))
  assert set(np.unique(seen[seen != tokens])) == {BOS_ID}
  assert 0.25 < (seen != tokens).mean() < 0.75


def test_streams_are_hidden_apart():
  """Of a row's two shares one is often large and the other small."""
  system = dataclasses.replace(toy(), hidden=(0.0, 1.0), geometry=Geometry(window_seconds=8.0))
  tokens = jnp.full((64, system.target_layout.length), 5)
  seen = np.asarray(system._partly_hidden(tokens, jax.random.key(1))) != 5
  border = system.target_layout.semantic_length + 1
  semantic, coarse = seen[:, :border].mean(axis=1), seen[:, border:].mean(axis=1)
  assert abs(np.corrcoef(semantic, coarse)[0, 1]) < 0.4
  assert max(semantic) > 0.8 and min(semantic) < 0.2


@pytest.mark.parametrize("hidden", [(0.5, 0.2), (0.0, 1.5), (0.5,)])
def test_impossible_shares_are_errors(hidden):
  with pytest.raises(InputError, match="two shares"):
    dataclasses.replace(toy(), hidden=hidden)


@pytest.mark.slow
def test_in_lockstep_the_head_reads_the_accompaniment_off_the_encoder():
  plain, half, whole = (dataclasses.replace(toy(), lockstep=share) for share in (0.0, 0.5, 1.0))
  batch, params, key = batch_for(plain, 4), nn.unbox(params_of(plain)), jax.random.key(3)
  frames = plain.target_layout.semantic_length
  encoded = plain.module.apply({"params": params}, batch["encoder_input_tokens"], method="encode")
  log_p = jax.nn.log_softmax(encoded[:, :frames] @ params["decoder"]["logits_dense"]["kernel"])
  targets = batch["decoder_target_tokens"][:, :frames]
  expected = -np.take_along_axis(np.asarray(log_p), targets[..., None], axis=-1).mean()
  of_decoder, metrics = plain.loss(params, batch, None)
  loss, also = half.loss(params, batch, None)
  total, count = also.pop("nll_lockstep")
  np.testing.assert_allclose(total / count, expected, rtol=1e-5)
  np.testing.assert_allclose(loss, 0.5 * (of_decoder + total), rtol=1e-3)  # but for the z-loss
  also.pop("nll_lockstep_masked")
  assert jax.tree.map(float, also) == jax.tree.map(float, metrics)
  assert set(whole.loss(params, batch, None)[1]) == {*also, "nll_lockstep", "nll_lockstep_masked"}
  # In training the whole loss leaves the decoder as it is.
  gradients = jax.grad(lambda params: whole.loss(params, batch, key)[0])(params)
  moved = {part: bool(optax.tree.norm(tree) > 0) for part, tree in gradients["decoder"].items()}
  assert {part for part, does in moved.items() if does} == {"logits_dense"}
  assert optax.tree.norm(gradients["encoder"]) > 0


@pytest.mark.parametrize(
  ("lockstep", "features", "message"), [(1.5, "s_sa", "a share"), (0.5, "a_sa", "semantic ids")]
)
def test_lockstep_that_cannot_be_is_an_error(lockstep, features, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(toy(), lockstep=lockstep, features=features)


def test_what_was_not_chosen_is_not_described():
  description = toy().describe()
  assert not {"hidden", "lockstep"} & set(description)
  assert not {"time_slopes", "time_rotation"} & set(description["network"])
  assert system_from_description(json.loads(json.dumps(description))) == toy()


def test_attention_in_time_samples_what_the_whole_network_prefers():
  network = dataclasses.replace(NETWORK, time_slopes=(1.0, 20.0), time_rotation=True)
  system = dataclasses.replace(toy(), network=network, hidden=(0.0, 0.5))
  assert system_from_description(json.loads(json.dumps(system.describe()))) == system
  batch, params = batch_for(system), params_of(system)
  ids = np.asarray(system.generate(params, batch, jax.random.key(0), SamplingOptions(greedy=True), samples=2))
  bos = np.full((len(ids), 1), BOS_ID, np.int32)
  seen = {
    "encoder_input_tokens": np.repeat(batch["encoder_input_tokens"], 2, axis=0),
    "decoder_input_tokens": np.concatenate([bos, ids[:, :-1]], axis=1),
  }
  logits = np.asarray(full_forward(system, params, seen))
  for t, (start, size) in enumerate(zip(*system.legal_blocks, strict=True)):
    np.testing.assert_array_equal(ids[:, t], start + logits[:, t, start : start + size].argmax(axis=-1))
