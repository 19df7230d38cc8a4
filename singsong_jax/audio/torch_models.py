"""PyTorch models of public weights: loaded whole or not at all, and run without gradients."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from singsong_jax.audio.public_weights import PublicWeights, import_extra
from singsong_jax.errors import InputError

_UNUSED = ("masked_spec_embed",)  # what stands for masked frames in training; some publish models without it


def load_transformers(model_class: Any, weights: PublicWeights, **options: Any) -> Any:
  """A model of `transformers` with the weights of a folder, ready to run; on a GPU if PyTorch has one.

  Args:
    options: of the class's `from_pretrained`.

  Raises:
    InputError: the weights are damaged, or some of the model's are missing or of another shape.
  """
  try:
    model, info = model_class.from_pretrained(
      weights.folder, local_files_only=True, output_loading_info=True, **options
    )
  except Exception as error:  # pickle, safetensors and transformers have many of their own
    raise unfit(weights, model_class.__name__, error) from error
  wrong = [str(name) for name in (*info["missing_keys"], *info["mismatched_keys"])]
  check_missing(weights, model_class.__name__, wrong)
  return ready(model)


def check_missing(weights: PublicWeights, what: str, names: Iterable[str]) -> None:
  """Raises InputError where a model lacks weights of these names."""
  missing = sorted(name for name in names if name not in _UNUSED)
  if missing:
    raise unfit(
      weights, what, f"{len(missing)} weights are missing or of another shape, {missing[0]} among them"
    )


def unfit(weights: PublicWeights, what: str, reason: object) -> InputError:
  """The error that weights are not a model's."""
  text = " ".join(str(reason).split())[:300]
  return InputError(
    f"{weights.folder / weights.names[-1]} does not hold the {what} of its configuration: {text}"
  )


def ready(model: Any) -> Any:
  """`model` for inference, on a GPU if PyTorch has one."""
  torch = import_torch()
  return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def run(model: Any, function: Callable[..., Any], *inputs: np.ndarray) -> Any:
  """`function` of arrays, as tensors where `model` is."""
  torch = import_torch()
  device = next(model.parameters()).device
  with torch.inference_mode():
    return function(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in inputs))


def import_torch() -> Any:
  """The module torch. Raises InputError where it is not installed."""
  return import_extra("torch", "torch", "this tokeniser")
