"""Upstream t5x's trainer and ours: the same losses, the same optimizer, checkpoints both ways, legal samples.

Runs where t5x is importable; docs/t5x.md says how to install it.
"""

import functools
import pathlib
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.fine import Fine
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.fine import FineLayout
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training import optimizers, t5x_checkpoints
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps

with warnings.catch_warnings():
  warnings.simplefilter("ignore")
  pytest.importorskip("t5x.trainer", reason="needs upstream t5x", exc_type=ImportError)
  import t5x.adafactor
  import t5x.checkpoints
  import t5x.partitioning
  import t5x.trainer
  import t5x.utils

  from singsong_jax.training import t5x_adapter
  from tasks.fine import FineExamples
  from tasks.singsong import SingSongExamples

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # upstream's deprecations

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS, BATCH_SIZE = 50, 4
VOCABULARY = Vocabulary(num_semantic_codes=16, num_acoustic_codes=16)
GEOMETRY = Geometry(window_seconds=0.2)
LAYOUT = FineLayout(num_acoustic_codes=16, chunk_seconds=0.1)
SIZES = dict(
  emb_dim=128, num_heads=2, head_dim=64, mlp_dim=256, num_decoder_layers=1, dtype="float32", dropout_rate=0.0
)
SYSTEMS = {
  "singsong": (
    SingSong(
      network=EncoderDecoderConfig(num_encoder_layers=1, **SIZES), vocabulary=VOCABULARY, geometry=GEOMETRY
    ),
    SingSongExamples(vocals="noisy", features="s_sa", vocabulary=VOCABULARY, geometry=GEOMETRY),
  ),
  "fine": (
    Fine(network=DecoderOnlyConfig(**SIZES), layout=LAYOUT),
    FineExamples(layout=LAYOUT),
  ),
}


def make_batch(system, index):
  """Legal random ids, in the form SeqIO's converters give them."""
  rng = np.random.default_rng(index)
  block_starts, block_size = system.legal_blocks
  targets = (block_starts + rng.integers(0, block_size, (BATCH_SIZE, len(block_starts)))).astype(np.int32)
  batch = {
    "decoder_target_tokens": targets,
    "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=system.bos_id),
    "decoder_loss_weights": np.ones_like(targets),
  }
  if system.name == "fine":
    batch["decoder_loss_weights"][:, : system.layout.coarse_length] = 0
  else:
    length = system.input_layout.length
    batch["encoder_input_tokens"] = rng.integers(2, 18, (BATCH_SIZE, length)).astype(np.int32)
  return batch


@functools.cache
def trained(name):
  """Both trainers from the same parameters on: (losses of ours, of t5x's, state of ours, t5x's of theirs)."""
  system, examples = SYSTEMS[name]
  optimizer = optimizers.adafactor(optimizers.rsqrt_decay())  # at ten times this rate rounding grows to 1e-2
  steps = Steps(system, optimizer, Partitioner(), seed=0, num_microbatches=1)
  batches = [make_batch(system, index) for index in range(NUM_STEPS)]
  state = steps.init()
  start = jax.tree.map(np.array, t5x_checkpoints.to_t5x(state))
  ours = []
  for batch in batches:
    state, sums = steps.train(state, batch)
    ours.append(float(sums["loss"][0] / sums["loss"][1]))
  model = t5x_adapter.SystemModel(system, examples, t5x.adafactor.Adafactor())
  with upstream_trainer(model, optimizer, start) as upstream:
    theirs = [float(upstream.train(iter([b]), 1).result()["loss"].value) for b in batches]
  return ours, theirs, state, upstream.train_state.state_dict()


def upstream_initializer(model):
  """What makes t5x's states, as its `train.py` has it, and its partitioner."""
  partitioner = t5x.partitioning.PjitPartitioner(num_partitions=1)
  shapes = {name: shape.shape for name, shape in model.system.batch_shapes(BATCH_SIZE).items()}
  initializer = t5x.utils.TrainStateInitializer(
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes=shapes,
    partitioner=partitioner,
  )
  return initializer, partitioner


def upstream_trainer(model, optimizer, start):
  """t5x's trainer as its `train.py` makes it, from the state `start`."""
  initializer, partitioner = upstream_initializer(model)
  train_state = initializer.from_scratch(jax.random.PRNGKey(0))
  return t5x.trainer.Trainer(
    model=model,
    train_state=train_state.restore_state(jax.tree.map(jnp.asarray, start)),
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=initializer.train_state_axes,
    rng=jax.random.PRNGKey(0),
    learning_rate_fn=optimizer.schedule,
    num_microbatches=None,
  )


@pytest.mark.parametrize("name", SYSTEMS)
def test_losses_are_equal_at_every_step(name):
  ours, theirs, _, _ = trained(name)
  assert len(ours) == NUM_STEPS and min(ours) < ours[0] - 0.1
  print(
    f"\n{name}: losses differ by at most {np.max(np.abs(np.divide(ours, theirs) - 1)):.1e} of their value"
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_parameters_and_adafactors_statistics_are_equal_at_the_end(name):
  _, _, state, final = trained(name)
  ours = t5x_checkpoints.to_t5x(state)
  assert jax.tree.structure(ours) == jax.tree.structure(final)
  assert any(leaf.size > 1 for leaf in jax.tree.leaves(state.opt_state[0].v_row))  # some are factored
  assert int(final["state"]["step"]) == NUM_STEPS
  pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(final))
  worst = max(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30) for a, b in pairs)
  print(f"\n{name}: arrays differ by at most {worst:.1e} of their largest number")
  assert worst < 1e-4


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("num_decodes", [1, 2])
def test_samples_are_legal_and_given_ids_stay(name, num_decodes):
  system, examples = SYSTEMS[name]
  model = t5x_adapter.SystemModel(system, examples, temperature=1.0, num_decodes=num_decodes)
  params = trained(name)[2].params
  batch = make_batch(system, 1000)
  predict = jax.jit(functools.partial(model.predict_batch_with_aux, return_all_decodes=True))
  decodes, aux = predict(params, batch, jax.random.PRNGKey(0))
  length = examples.lengths["targets"]
  block_starts, block_size = system.legal_blocks
  codes = np.asarray(decodes) - block_starts[-length:]
  assert decodes.shape == (BATCH_SIZE, num_decodes, length)
  assert (codes >= 0).all() and (codes < block_size).all()
  assert len(np.unique(codes)) > 1 and (np.diff(aux["scores"], axis=1) >= 0).all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_greedy_samples_are_the_engines(name):
  """Both decoding loops over one network; for the fine stage, that the coarse ids are given in both."""
  from singsong_jax.decoding.sampling import SamplingOptions

  system, examples = SYSTEMS[name]
  model = t5x_adapter.SystemModel(system, examples, temperature=0.0)
  params, batch = trained(name)[2].params, make_batch(system, 1000)
  theirs = jax.jit(model.predict_batch)(params, batch)
  ours = system.generate(params, batch, jax.random.key(0), SamplingOptions(greedy=True))
  assert np.array_equal(theirs, ours[:, -examples.lengths["targets"] :])


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_are_log_likelihoods(name):
  system, examples = SYSTEMS[name]
  model = t5x_adapter.SystemModel(system, examples)
  params, batch = trained(name)[2].params, make_batch(system, 1000)
  scores, intermediates = model.score_batch(params, batch, return_intermediates=True)
  _, sums = system.loss(params, batch, None)
  np.testing.assert_allclose(-scores.sum(), sums["loss"][0] - sums["z_loss"][0], rtol=1e-5)
  assert scores.shape == (BATCH_SIZE,)
  assert intermediates["decoder"]["token_scores"][0].shape == batch["decoder_target_tokens"].shape


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_converter_puts_bos_first_and_never_packs(name):
  system, examples = SYSTEMS[name]
  model = t5x_adapter.SystemModel(system, examples)
  with pytest.raises(ValueError, match="never packed"):
    model.FEATURE_CONVERTER_CLS(pack=True)
  assert model.FEATURE_CONVERTER_CLS(pack=False).bos_id == system.bos_id


def test_data_of_other_lengths_are_refused():
  system, examples = SYSTEMS["singsong"]
  shapes = {name: shape.shape for name, shape in system.batch_shapes(2).items()}
  with pytest.raises(ValueError, match=r"encoder_input_tokens have shape \(2, 7\)"):
    t5x_adapter.SystemModel(system, examples).get_initial_variables(
      jax.random.PRNGKey(0), {**shapes, "encoder_input_tokens": (2, 7)}
    )


@pytest.mark.parametrize("mode", ["train", "eval", "infer"])
def test_upstream_knows_every_parameter_of_its_gin_file(mode):
  """What only upstream can tell: the other tests of gin/ have no `train`, `evaluate` and `infer` of its."""
  trainer = "t5x" if mode == "train" else f"t5x_{mode}"
  axes = (
    "system/singsong",
    "size/tiny",
    "vocals/noisy",
    "features/s_sa",
    "hardware/cpu",
    f"trainer/{trainer}",
    "run/smoke",
  )
  files = [f"--gin_file=gin/{axis}.gin" for axis in axes]
  command = [sys.executable, "-m", "t5x.main", f"--run_mode={mode}", "--dry_run", *files]
  command += [
    f"--gin.{macro}='unused'" for macro in ("DATA_DIR", "MODEL_DIR", "CHECKPOINT_PATH", "OUTPUT_DIR")
  ]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr


def test_checkpoints_are_read_by_each_other(tmp_path):
  """What we write, by t5x's checkpoint manager; what that writes, by us."""
  system, examples = SYSTEMS["singsong"]
  state = trained("singsong")[2]
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
  written = t5x_checkpoints.write_t5x(tmp_path / "ours", state)
  model = t5x_adapter.SystemModel(system, examples, t5x.adafactor.Adafactor())
  initializer, partitioner = upstream_initializer(model)

  def manager(folder):
    return t5x.checkpoints.OrbaxCheckpointManagerInterface(
      folder, initializer.global_train_state_shape, partitioner, period=1
    )

  theirs = manager(str(tmp_path / "ours")).restore(path=str(written))
  assert_equal(theirs.state_dict(), t5x_checkpoints.to_t5x(state))
  (tmp_path / "theirs").mkdir()
  other = manager(str(tmp_path / "theirs"))
  other.save(theirs)
  other.wait_until_finished()
  assert_equal(t5x_checkpoints.read_t5x(tmp_path / "theirs", like), state)


def assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
