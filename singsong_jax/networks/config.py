"""Sizes and switches that every transformer of the project has."""

import dataclasses
from typing import Any, Self

from flax import linen as nn

from singsong_jax.errors import InputError

POSITION_SCHEMES = ("sinusoidal", "relative_bias")
DTYPES = ("bfloat16", "float32")
REMAT_POLICIES = ("none", "minimal", "full")
ATTENTIONS = ("xla", "cudnn", "flash")
_CHOICES = {
  "position_scheme": POSITION_SCHEMES,
  "dtype": DTYPES,
  "remat": REMAT_POLICIES,
  "attention": ATTENTIONS,
}
# How training is computed on one kind of machine. A model is the same without them, wherever it goes.
MACHINE_SETTINGS = ("remat", "scan_layers", "attention", "vocab_multiple")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """What an encoder-decoder and a decoder alone have in common.

  The last four say how to compute, not what: parameters and, up to rounding, losses are the same for all
  their values.

  Attributes:
    vocab_size: number of ids; 0 leaves it to the system that owns the vocabulary.
    mlp_activations: flax.linen activation names, or 'linear'; their outputs are multiplied.
    dtype: of activations. Parameters, norms, softmax and final logits are always float32.
    position_scheme: 'sinusoidal', or 'relative_bias' for T5's.
    time_slopes: of each head, by how much a logit of its attention falls with every second between query and
      key, over `position_scheme`; see `positions.Clock`. Empty, the paper's: by nothing.
    time_rotation: whether queries and keys are turned by when they sound, likewise. The paper's: no.
    remat: what the backward pass recomputes of each layer: 'none' of it; 'minimal' all but the products
      with weights; 'full' all but its input.
    scan_layers: compile one layer and loop over it, instead of compiling each. Programs compile in a
      fraction of the time; on accelerators they are as fast.
    attention: 'xla', or a fused kernel: 'cudnn' (NVIDIA GPUs, bfloat16) or 'flash' (TPUs).
    vocab_multiple: the head is padded to a multiple of so many logits, which a mesh or a matrix unit can
      divide; padding has a logit of -1e10 and so no part in any loss.

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
  time_slopes: tuple[float, ...] = ()
  time_rotation: bool = False
  remat: str = "none"
  scan_layers: bool = False
  attention: str = "xla"
  vocab_multiple: int = 1

  def __post_init__(self):
    for name in ("mlp_activations", "time_slopes"):
      object.__setattr__(self, name, tuple(getattr(self, name)))  # gin and JSON give lists
    for name, size in dataclasses.asdict(self).items():
      is_size = name.startswith("num_") or name in ("head_dim", "mlp_dim", "vocab_multiple")
      if is_size and (not isinstance(size, int) or size < 1):
        raise InputError(f"{name} must be a whole number of at least 1, got {size!r}")
    for name, choices in _CHOICES.items():
      if getattr(self, name) not in choices:
        raise InputError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
    if self.emb_dim < 4 or self.emb_dim % 2:
      raise InputError(f"emb_dim must be even and at least 4 (sines and cosines), got {self.emb_dim}")
    for activation in self.mlp_activations:
      if activation != "linear" and not hasattr(nn, activation):
        raise InputError(f"mlp_activations names {activation!r}, which flax.linen does not have")
    if not 0 <= self.dropout_rate < 1:
      raise InputError(f"dropout_rate must be in [0, 1), got {self.dropout_rate}")
    if len(self.time_slopes) not in (0, self.num_heads) or any(slope < 0 for slope in self.time_slopes):
      raise InputError(
        f"time_slopes={self.time_slopes}: give none, or one (≥ 0) for each of the {self.num_heads} heads"
      )
    if self.time_rotation and self.head_dim % 2:
      raise InputError(f"time_rotation turns pairs of features: head_dim must be even, got {self.head_dim}")
    if self.attention == "cudnn" and self.dtype != "bfloat16":
      raise InputError(f"attention='cudnn' computes in bfloat16; dtype is {self.dtype!r}")

  @property
  def goes_by_time(self) -> bool:
    """Whether the network needs a `positions.Clock`."""
    return bool(self.time_slopes) or self.time_rotation

  def with_vocabulary(self, size: int) -> Self:
    """The same with `vocab_size` set. Raises InputError where another one is set already."""
    if self.vocab_size not in (0, size):
      raise InputError(
        f"network.vocab_size is {self.vocab_size}, but the vocabulary has {size} ids; leave it unset"
      )
    return dataclasses.replace(self, vocab_size=size)

  @property
  def axis_sizes(self) -> dict[str, int]:
    """Logical axis → the number of its parts, which a mesh must divide. The vocabulary is padded instead."""
    return {"heads": self.num_heads, "mlp": self.mlp_dim, "embed": self.emb_dim}

  def describe(self) -> dict[str, Any]:
    """As JSON values: all settings of the model, none of the machine it is trained on."""
    settings = {**dataclasses.asdict(self), "mlp_activations": list(self.mlp_activations)}
    settings["time_slopes"] = list(self.time_slopes)
    for name in ("time_slopes", "time_rotation"):
      if not settings[name]:
        del settings[name]  # descriptions of before there was a choice remain the same
    return {name: value for name, value in settings.items() if name not in MACHINE_SETTINGS}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> Self:
    """Inverse of `describe`, with defaults for the settings of the machine."""
    return cls(**{name: value for name, value in description.items() if name not in MACHINE_SETTINGS})

  def require_vocabulary(self) -> None:
    """Raises ValueError where no system has set `vocab_size`."""
    if self.vocab_size < 1:
      raise ValueError(
        f"{type(self).__name__}.vocab_size is not set; the system takes it from its vocabulary"
      )
