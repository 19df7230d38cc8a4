"""The protocol on a model that knows its data by heart, and on one that does not."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation import memorization
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.vocabulary import BOS_ID, Vocabulary
from singsong_jax.tokens.windows import Geometry

NETWORK = EncoderDecoderConfig(
  emb_dim=32,
  num_heads=2,
  head_dim=16,
  mlp_dim=64,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dtype="float32",
  dropout_rate=0.0,
)
SYSTEM = SingSong(
  network=NETWORK,
  features="s_sa",
  vocabulary=Vocabulary(num_semantic_codes=12, num_acoustic_codes=4, num_coarse_levels=2),
  geometry=Geometry(window_seconds=0.4, num_acoustic_levels=2),  # 10 semantic frames, 20 acoustic ones
)
CLIPS, PROMPTS = 8, (0, 4, 9)


def batch(seed):
  rng = np.random.default_rng(seed)

  def ids(layout):
    return (layout.block_starts + rng.integers(0, layout.block_sizes, (CLIPS, layout.length))).astype(
      np.int32
    )

  targets = ids(SYSTEM.target_layout)
  first = np.full((CLIPS, 1), BOS_ID, np.int32)
  return {
    "encoder_input_tokens": ids(SYSTEM.input_layout),
    "decoder_input_tokens": np.concatenate([first, targets[:, :-1]], axis=1),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": np.ones_like(targets),
  }


@functools.cache
def fresh():
  return nn.unbox(SYSTEM.init(jax.random.key(0)))


@functools.cache
def trained_on(seed):
  """Overfitted on the batch of that seed."""
  params, optimizer = fresh(), optax.adam(1e-2)
  state, data = optimizer.init(params), batch(seed)

  @jax.jit
  def step(params, state):
    gradients = jax.grad(lambda p: SYSTEM.loss(p, data, None)[0] / data["decoder_loss_weights"].sum())(params)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state

  for _ in range(300):
    params, state = step(params, state)
  return params


def test_a_model_that_has_memorised_is_found_out():
  rows = memorization.analyse(SYSTEM, trained_on(0), [batch(0)], PROMPTS)
  for row in rows:
    assert (row.trials, row.exact, row.matching) == (CLIPS, CLIPS, 1.0)
    assert row.longest_mean == row.longest_max == 10 - row.prompt
    assert row.chance_matching < 0.5


def test_what_it_was_not_trained_on_it_does_not_know():
  rows = memorization.analyse(SYSTEM, trained_on(0), [batch(1)], PROMPTS[:2])
  assert [row.exact for row in rows] == [0, 0]
  assert all(row.matching < 0.5 for row in rows)


def test_a_fresh_model_knows_nothing():
  rows = memorization.analyse(SYSTEM, fresh(), [batch(0)], PROMPTS[:2])
  assert [row.exact for row in rows] == [0, 0]


def test_prompts_are_given_and_not_counted():
  system = memorization.semantic_stage(SYSTEM)
  data = batch(1)
  truths = data["decoder_target_tokens"][:, :10]
  made = memorization.continuations(system, fresh(), data["encoder_input_tokens"], truths, 4)
  assert np.array_equal(made[:, :4], truths[:, :4])
  assert made.shape == truths.shape


def test_filled_up_rows_are_no_trials():
  data = batch(0)
  data["decoder_loss_weights"][5:] = 0
  assert memorization.analyse(SYSTEM, fresh(), [data, batch(1)], (0,))[0].trials == 5 + CLIPS


def test_the_longest_stretch_by_hand():
  one = np.array([[1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
  other = np.array([[1, 2, 9, 4, 5, 6], [2, 2, 2, 2, 2, 2], [1, 2, 3, 4, 5, 6]])
  assert memorization.longest_match(one, other).tolist() == [3, 0, 6]


def test_the_report_has_a_line_for_each_prompt():
  rows = memorization.analyse(SYSTEM, fresh(), [batch(0)], PROMPTS)
  assert memorization.as_markdown(rows).count("\n| ") == len(PROMPTS)


def test_the_first_clips_alone():
  rows = [
    memorization.analyse(SYSTEM, fresh(), [batch(0), batch(1)], (0,), most)[0] for most in (5, CLIPS, 11)
  ]
  assert [row.trials for row in rows] == [5, CLIPS, 11]


def test_what_was_decoded_is_not_decoded_again(tmp_path, monkeypatch):
  batches = [batch(0), batch(1)]
  whole = memorization.analyse(SYSTEM, fresh(), batches, PROMPTS)
  memorization.analyse(SYSTEM, fresh(), batches[:1], PROMPTS, folder=tmp_path)  # as if killed then
  decode, calls = memorization.continuations, []
  monkeypatch.setattr(memorization, "continuations", lambda *a: calls.append(a) or decode(*a))
  assert memorization.analyse(SYSTEM, fresh(), batches, PROMPTS, folder=tmp_path) == whole
  assert len(calls) == len(PROMPTS)
  noisier = {**batch(0), "encoder_input_tokens": batch(1)["encoder_input_tokens"]}
  for other, prompts in ((batch(2), PROMPTS), (noisier, PROMPTS), (batch(0), PROMPTS[:2])):
    with pytest.raises(InputError, match=r"000000\.npz is of other clips or prompts"):
      memorization.analyse(SYSTEM, fresh(), [other], prompts, folder=tmp_path)


def test_errors():
  with pytest.raises(InputError, match="0 … 9 of 10"):
    memorization.analyse(SYSTEM, fresh(), [batch(0)], (10,))
  with pytest.raises(InputError, match="0 clips are too few"):
    memorization.analyse(SYSTEM, fresh(), [], (0,))
  with pytest.raises(InputError, match="'sa_a' decode no semantic codes"):
    memorization.semantic_stage(dataclasses.replace(SYSTEM, features="sa_a"))


def test_parameters_do_not_depend_on_where_it_stops():
  stage = memorization.semantic_stage(SYSTEM)
  shapes = [
    jax.tree.map(jnp.shape, nn.unbox(jax.eval_shape(s.init, jax.random.key(0)))) for s in (stage, SYSTEM)
  ]
  assert shapes[0] == shapes[1]
