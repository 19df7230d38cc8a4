"""Our systems under upstream t5x: its `train.py`, `eval.py`, `infer.py`, configured by gin/trainer/t5x*.gin.

The only module that imports t5x, and so only importable where that is installed (docs/t5x.md). What is ours
in such a run: parameters, loss, data, learning rate, legal ids. What is t5x's: loop, Adafactor, sharding,
checkpoints, sampling.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.core
import flax.linen as nn
import gin
import jax
import jax.numpy as jnp
import numpy as np
import seqio
from clu import metrics as clu_metrics
from flax.linen import partitioning as flax_partitioning

from singsong_jax.errors import InputError
from singsong_jax.systems.base import Batch, Generating, Params

try:
  # gin_utils registers `summarize_gin_config`.
  from t5x import adafactor, decoding, gin_utils, models, partitioning, trainer, utils  # noqa: F401
  from t5x import metrics as t5x_metrics
except ImportError as missing:
  raise ImportError(
    f"upstream t5x cannot be imported ({missing}); docs/t5x.md says how to install it"
  ) from missing

# Upstream's own gin files register them dynamically, which ours, to be given in any order, cannot.
for _target in (
  adafactor.Adafactor,
  partitioning.PjitPartitioner,
  seqio.Evaluator,
  seqio.JSONLogger,
  seqio.TensorBoardLogger,
  trainer.Trainer,
  utils.CheckpointConfig,
  utils.DatasetConfig,
  utils.RestoreCheckpointConfig,
  utils.SaveCheckpointConfig,
):
  gin.external_configurable(_target, module=_target.__module__)


class Examples(Protocol):
  """What a system is trained on; `tasks.datasets.Examples` has more of it."""

  @property
  def lengths(self) -> dict[str, int]:
    """Of the task's features `inputs` and `targets`."""

  def make_task(self, name: str, data_dir: str, shuffle_buffer_size: int) -> seqio.Task: ...

  def describe(self) -> dict[str, Any]: ...


@gin.configurable
class SystemModel(models.BaseTransformerModel):
  """A `Generating` system as t5x's trainer, evaluator and inference know a model.

  Args:
    system: what is trained; its parameters have t5x's names and logical axes.
    examples: what it is trained on.
    optimizer_def: t5x's; evaluation and inference need none.
    temperature: of the sampling.
    topk, topp: sample from the likeliest ids only, as t5x does; 0 is off.
    num_decodes: samples of which the likeliest is returned.
  """

  def __init__(
    self,
    system: Generating,
    examples: Examples,
    optimizer_def: Any = None,
    temperature: float = 1.0,
    topk: int = 0,
    topp: float = 0.0,
    num_decodes: int = 1,
  ):
    self.system = system
    self._targets_length = examples.lengths["targets"]
    self._num_decodes = num_decodes
    self.FEATURE_CONVERTER_CLS = _feature_converter(system)
    features = examples.make_task("of_model", "", 1).output_features
    super().__init__(
      module=None,
      input_vocabulary=features["inputs"].vocabulary,
      output_vocabulary=features["targets"].vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=functools.partial(
        decoding.temperature_sample,
        temperature=temperature,
        topk=topk,
        topp=topp,
        logit_callback_fn=self.only_legal,
      ),
    )

  def get_initial_variables(
    self, rng: jax.Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
  ) -> flax.core.FrozenDict:
    """Fresh parameters and, for partitioner and Adafactor, the names of their axes.

    Raises:
      InputError: `input_shapes` are not those of the system's batches.
    """
    for name, wanted in self.system.batch_shapes(1).items():
      if tuple(input_shapes[name][1:]) != wanted.shape[1:]:
        raise InputError(
          f"the data's {name} have shape {tuple(input_shapes[name])}, the system wants "
          f"{('B', *wanted.shape[1:])}; give both the same features"
        )
    boxed = self.system.init(rng)
    return flax.core.freeze({"params": nn.unbox(boxed), "params_axes": _params_axes(boxed)})

  def loss_fn(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[jax.Array, dict[str, clu_metrics.Metric]]:
    """The system's loss a target token (t5x's NUM_REAL_TARGET_TOKENS), and its metrics.

    With M microbatches t5x adds up their means, so that gradients are M times larger. Adafactor divides by
    their size: updates stay the same, its statistics are M² times larger.
    """
    total, sums = self.system.loss(params, batch, dropout_rng)
    metrics: dict[str, clu_metrics.Metric] = {
      name: clu_metrics.Average(total=value, count=weight) for name, (value, weight) in sums.items()
    }
    metrics["timing/steps_per_second"] = t5x_metrics.StepsPerTime.from_model_output()
    metrics["timing/target_tokens_per_second"] = t5x_metrics.TimeRate.from_model_output(
      numerator=batch["decoder_target_tokens"].size
    )
    return total / sums["loss"][1], metrics

  def predict_batch_with_aux(
    self,
    params: Params,
    batch: Batch,
    rng: jax.Array | None = None,
    decoder_params: Mapping[str, Any] | None = None,
    return_all_decodes: bool = False,
    num_decodes: int | None = None,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Samples targets by t5x's `temperature_sample`; target positions without loss weight are given.

    Args:
      params: the system's.
      batch: as in training; of the targets only those without loss weight are read.
      rng: of the sampling.
      decoder_params: further arguments of `temperature_sample`.
      return_all_decodes: all samples of an input, not only the likeliest.
      num_decodes: samples of each input; None takes the model's.

    Returns:
      Ids `[B, targets]` and `{"scores": [B]}`, log-likelihoods; `[B, N, …]` with all decodes, ascending.
    """
    num_decodes = num_decodes or self._num_decodes
    inputs = _given_inputs(batch)  # [B, T]
    rows, length = inputs.shape
    decoder = self.system.decoder(params, batch, rows * num_decodes)
    # t5x tells rows by the first axis and repeats the rows of inputs for `num_decodes`.
    caches, structure = jax.tree.flatten(decoder.grow(decoder.init_cache(), length))  # [R·H, T, D]
    by_rows = [x.reshape(rows * num_decodes, -1, *x.shape[1:]) for x in caches]

    def tokens_to_logits(state: decoding.DecodingState):
      cache = structure.unflatten([state.cache[str(i)].reshape(x.shape) for i, x in enumerate(caches)])
      x, cache = decoder.extend(state.cur_token, state.cur_index[0], cache)  # all rows are equally far
      logits = decoder.logits(x[:, 0], 0, self.output_vocabulary.vocab_size)
      leaves = jax.tree.leaves(cache)
      return logits, {str(i): x.reshape(by_rows[i].shape) for i, x in enumerate(leaves)}

    decodes, scores = self.decode_fn(
      inputs=inputs,
      cache={str(i): x[:rows] for i, x in enumerate(by_rows)},
      tokens_to_logits=tokens_to_logits,
      eos_id=-1,  # no sequence ends early; by default id 1 would end it, which is BOS
      num_decodes=num_decodes,
      initial_index=jnp.zeros(rows, jnp.int32),  # else the first input is 0, whatever `inputs` says
      decode_rng=rng,
      **(decoder_params or {}),
    )
    decodes = decodes[..., length - self._targets_length :]
    if return_all_decodes:
      return decodes, {"scores": scores}
    return decodes[:, -1], {"scores": scores[:, -1]}

  def only_legal(self, logits: jax.Array, state: decoding.SamplingLoopState) -> jax.Array:
    """t5x's logit callback: `[R, V]` with the ids that are illegal at each row's position out of reach."""
    block_starts, block_size = self.system.legal_blocks
    sizes = np.broadcast_to(block_size, block_starts.shape)
    first, size = (jnp.asarray(x)[state.cur_index][:, None] for x in (block_starts, sizes))  # [R, 1]
    ids = jnp.arange(logits.shape[-1])
    return jnp.where((first <= ids) & (ids < first + size), logits, decoding.NEG_INF)

  def score_batch(self, params: Params, batch: Batch, return_intermediates: bool = False) -> Any:
    """Log-likelihood of each row's targets `[B]`, over all ids and without z-loss.

    With `return_intermediates` also `{"decoder": {"token_scores": ([B, T],), …}}`, as t5x has them.
    """

    def total_nll(weights: jax.Array) -> jax.Array:
      _, sums = self.system.loss(params, {**batch, "decoder_loss_weights": weights}, None)
      return sums["loss"][0] - sums["z_loss"][0]

    weights = batch["decoder_loss_weights"].astype(jnp.float32)
    # The derivative of a weighted sum by its weights: the numbers that were summed.
    token_scores = -jax.grad(total_nll)(weights) * weights
    scores = token_scores.sum(axis=-1)
    if not return_intermediates:
      return scores
    tokens = {"target_tokens": batch["decoder_target_tokens"], "loss_weights": weights}
    return scores, {"decoder": {name: (x,) for name, x in {**tokens, "token_scores": token_scores}.items()}}

  def _compute_logits(self, params, batch, dropout_rng=None):
    raise NotImplementedError("loss and scores come from the system")


def _given_inputs(batch: Batch) -> jax.Array:
  """The decoder's inputs `[B, T]`: BOS and the given ids; 0 where t5x is to put what it samples."""
  given = batch["decoder_loss_weights"][:, :-1] == 0
  inputs = batch["decoder_input_tokens"]
  return jnp.concatenate([inputs[:, :1], jnp.where(given, inputs[:, 1:], 0)], axis=1)


def _params_axes(boxed: Any) -> dict[str, Any]:
  """Parameters' axis names as t5x wants them: `kernel` has its own in `kernel_axes`."""
  return {
    f"{name}_axes" if isinstance(value, nn.meta.AxisMetadata) else name: flax_partitioning.AxisMetadata(
      value.names
    )
    if isinstance(value, nn.meta.AxisMetadata)
    else _params_axes(value)
    for name, value in boxed.items()
  }


def _feature_converter(system: Generating) -> Callable[..., seqio.FeatureConverter]:
  """As t5x calls it. BOS comes first, and examples are not packed: their lengths are those of the network."""
  encoder = "encoder_input_tokens" in system.batch_shapes(1)
  converter = seqio.EncDecFeatureConverter if encoder else seqio.PrefixLMFeatureConverter

  def make(pack: bool = False, use_custom_packing_ops: bool = False) -> seqio.FeatureConverter:
    if pack or use_custom_packing_ops:
      raise InputError("utils.DatasetConfig.pack is True; examples have fixed lengths and are never packed")
    return converter(pack=False, bos_id=system.bos_id)

  return make


@gin.configurable
def register_task(examples: Examples, data_dir: str, shuffle_buffer_size: int = 1024) -> str:
  """Registers the SeqIO task of `examples` over a data directory, once, and returns its name.

  Args:
    examples: as in `train_iterator`.
    data_dir: folder that `data_pipelines.prepare` wrote.
    shuffle_buffer_size: examples, which are part of every saved position.
  """
  settings = [value for value in examples.describe().values() if isinstance(value, str)]
  name = "_".join([type(examples).__name__, *settings])
  if name not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add_provider(name, examples.make_task(name, data_dir, shuffle_buffer_size))
  return name


@gin.configurable
def task_feature_lengths(examples: Examples) -> dict[str, int]:
  """The exact lengths of `inputs` and `targets`."""
  return examples.lengths


@gin.configurable
def logical_axis_rules(fsdp: int = 1) -> Any:
  """t5x's rules, but with the vocabulary whole: t5x cannot cut 5122 or 12,289 ids unevenly.

  With `fsdp` above 1 parameters are cut over the whole data axis, the only way t5x has.
  """
  rules = partitioning.standard_logical_axis_rules(parameter_partitioning_dims=2 if fsdp > 1 else 1)
  return [(name, None if name == "vocab" else axes) for name, axes in rules]
