"""Sizes and switches that every transformer of the project has."""

import dataclasses
from typing import Any, Self

from flax import linen as nn

from singsong_jax.errors import InputError

POSITION_SCHEMES = ("sinusoidal", "relative_bias")
DTYPES = ("bfloat16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """What an encoder-decoder and a decoder alone have in common.

  Attributes:
    vocab_size: number of ids; 0 leaves it to the system that owns the vocabulary.
    mlp_activations: flax.linen activation names, or 'linear'; their outputs are multiplied.
    dtype: of activations. Parameters, norms, softmax and final logits are always float32.
    position_scheme: 'sinusoidal', or 'relative_bias' for T5's.
    remat: recompute each layer in the backward pass, keeping only its matrix products with weights.

  Raises:
    InputError: a value the network cannot be built with.
  """

  vocab_size: int = 0
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_decoder_layers: int
  mlp_activations: tuple[str, ...] = ("gelu", "linear")
  dropout_rate: float = 0.1
  dtype: str = "bfloat16"
  position_scheme: str = "sinusoidal"
  remat: bool = False

  def __post_init__(self):
    object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))  # gin and JSON give lists
    for name, size in dataclasses.asdict(self).items():
      is_size = name.startswith("num_") or name in ("head_dim", "mlp_dim")
      if is_size and (not isinstance(size, int) or size < 1):
        raise InputError(f"{name} must be a whole number of at least 1, got {size!r}")
    if self.position_scheme not in POSITION_SCHEMES:
      raise InputError(f"position_scheme must be one of {POSITION_SCHEMES}, got {self.position_scheme!r}")
    if self.emb_dim < 4 or self.emb_dim % 2:
      raise InputError(f"emb_dim must be even and at least 4 (sines and cosines), got {self.emb_dim}")
    for activation in self.mlp_activations:
      if activation != "linear" and not hasattr(nn, activation):
        raise InputError(f"mlp_activations names {activation!r}, which flax.linen does not have")
    if self.dtype not in DTYPES:
      raise InputError(f"dtype must be one of {DTYPES}, got {self.dtype!r}")
    if not 0 <= self.dropout_rate < 1:
      raise InputError(f"dropout_rate must be in [0, 1), got {self.dropout_rate}")

  def with_vocabulary(self, size: int) -> Self:
    """The same with `vocab_size` set. Raises InputError where another one is set already."""
    if self.vocab_size not in (0, size):
      raise InputError(
        f"network.vocab_size is {self.vocab_size}, but the vocabulary has {size} ids; leave it unset"
      )
    return dataclasses.replace(self, vocab_size=size)

  def describe(self) -> dict[str, Any]:
    """All settings as JSON values."""
    return {**dataclasses.asdict(self), "mlp_activations": list(self.mlp_activations)}

  def require_vocabulary(self) -> None:
    """Raises ValueError where no system has set `vocab_size`."""
    if self.vocab_size < 1:
      raise ValueError(
        f"{type(self).__name__}.vocab_size is not set; the system takes it from its vocabulary"
      )
