"""What training and inference may know of a system (a paper): these protocols, and nothing else.

Training needs a `System`, and takes the whole step from one that is a `SelfUpdating` besides. Language
models, which inference samples from, are `Generating`.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax

from singsong_jax.decoding.engine import CachedNetwork, LogitCallback, Spans
from singsong_jax.decoding.sampling import SamplingOptions

Params = Any  # pytree of float32 arrays, boxed in linen's LogicallyPartitioned or not
Batch = dict[str, jax.Array]
Sums = dict[str, tuple[jax.Array, jax.Array]]  # name → (sum, weight)


class System(Protocol):
  """A network with its loss. Implementations are hashable values without state."""

  name: str

  @property
  def axis_sizes(self) -> dict[str, int]:
    """Logical axis → the number of its parts, which a mesh must divide: heads, for one."""

  def init(self, rng: jax.Array) -> Params:
    """Fresh parameters, boxed with their logical axis names. Works under `jit` and `eval_shape`."""

  def loss(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None, step: jax.Array | None = None
  ) -> tuple[jax.Array, Sums]:
    """Training loss summed over the batch's target tokens, and metrics as `(sum, weight)` pairs.

    Sums and weights of microbatches, devices and batches add up; a mean is `sum / weight`, and a
    weight of 0 means the batch has no such tokens. 'loss' is among them: the returned sum, and the number of
    target tokens, which gradients are divided by. Dropout is on exactly when `dropout_rng` is given.

    Args:
      step: updates done, for what changes in the course of training; None in evaluations.
    """

  def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch."""

  def training_flops(self, batch_size: int) -> float:
    """Floating-point operations that one update needs, by `networks/flops.py`; a program may do more."""

  def describe(self) -> dict[str, Any]:
    """All settings as JSON values; `systems.system_from_description` is the inverse."""


@runtime_checkable
class SelfUpdating(Protocol):
  """A system whose training step is more than one gradient of one loss: a GAN has two, and two optimizers."""

  def init_optimizer(self, transformation: optax.GradientTransformation, params: Params) -> Any:
    """The optimizer's state of all it trains."""

  def update(
    self,
    step: jax.Array,
    params: Params,
    opt_state: Any,
    batch: Batch,
    rng: jax.Array,
    transformation: optax.GradientTransformation,
  ) -> tuple[Params, Any, Sums]:
    """One training step; traced under `jit` with the batch of all devices.

    Args:
      step: updates done before, int32 scalar.
      opt_state: from `init_optimizer`, or of the step before.
      rng: a key of this step.

    Returns:
      Parameters and optimizer state after it, and metrics as `System.loss` has them; among these 'loss', and
      'gradient_norm' with weight 1.
    """


class Generating(System, Protocol):
  """A system that is a language model."""

  bos_id: int  # the decoder's first input

  def generate(
    self,
    params: Params,
    batch: Batch,
    rng: jax.Array,
    options: SamplingOptions = SamplingOptions(),
    *,
    forced_spans: Spans = (),
    samples: int = 1,
    logit_callback: LogitCallback | None = None,
  ) -> jax.Array:
    """Samples targets: int32 ids `[B · samples, T]`; row = input · samples + sample.

    Compiled at the first call, once per shapes and keyword arguments.

    Args:
      batch: the inputs of B rows. `decoder_target_tokens [B · samples, T]` is read at `forced_spans` only.
      rng: one key (row i uses `fold_in(rng, i)`), or one a row `[B · samples]`. A row depends on its own
        key, input and forced ids only.
      forced_spans: half-open spans of target positions, ascending, whose ids are given.
      samples: rows generated for each input.
      logit_callback: for research; see `decoding/engine.py`. Hashable.

    Raises:
      InputError: spans that overlap or leave the target, or an id in them that is illegal at its position.
    """

  @property
  def legal_blocks(self) -> tuple[np.ndarray, int | np.ndarray]:
    """The first legal id of each target position, int32 `[T]`, and how many are legal from there on: of every
    position, or of each `[T]`.
    """

  def decoder(self, params: Params, batch: Batch, rows: int) -> CachedNetwork:
    """The network one token at a time, for loops that are not `generate`'s; to be made inside `jit`.

    Args:
      params: from `init`.
      batch: the inputs of B rows.
      rows: number of sequences, a multiple of B: so many for each input, one after another.
    """

  def generation_bytes(self, rows: int) -> int:
    """Memory that generating `rows` rows at once takes besides the parameters, in bytes."""
