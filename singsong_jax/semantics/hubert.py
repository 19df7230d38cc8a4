"""HuBERT (Hsu et al. 2021) and MERT (Li et al. 2023), whose networks are the same.

HuBERT (`facebook/hubert-base-ls960`, `…-large-ll60k`) learned from speech, 16 kHz, and has 50 frames a
second. MERT (`m-a-p/MERT-v1-95M`, `…-330M`) learned from music, 24 kHz, and has 75. MERT comes with Python
code of its own; its weights are a HuBERT's unless its configuration turns on an extra input
(`feature_extractor_cqt`) or other residuals (`deepnorm`), so they are loaded as one, and no code from
elsewhere is run.
"""

import math
from typing import Any, ClassVar

from singsong_jax.audio.public_weights import TORCH_WEIGHTS, PublicWeights, import_extra
from singsong_jax.audio.torch_models import load_transformers
from singsong_jax.errors import InputError
from singsong_jax.semantics.pretrained import Network, PretrainedFeatures

_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"


class HubertFeatures(PretrainedFeatures):
  """HuBERT. By default its 9th block, as HAFM's (Liu et al. 2025) large one."""

  name: ClassVar[str] = "hubert"
  configs: ClassVar[tuple[str, ...]] = (_CONFIG, _PREPROCESSOR)
  weight_files: ClassVar[tuple[str, ...]] = TORCH_WEIGHTS
  default_layer: ClassVar[int] = 9

  @classmethod
  def _open(cls, weights: PublicWeights) -> Network:
    transformers = import_extra("transformers", "torch", f"the semantic encoder {cls.name}")
    config = transformers.HubertConfig(**cls._check(weights))
    model = load_transformers(transformers.HubertModel, weights, config=config)
    preprocessor = weights.read_json(_PREPROCESSOR)
    if not {"sampling_rate", "do_normalize"} <= preprocessor.keys():
      raise InputError(f"{weights.folder / _PREPROCESSOR} lacks sampling_rate or do_normalize")
    return Network(
      model=model,
      blocks=model.encoder.layers,
      dims=config.hidden_size,
      sample_rate_hz=preprocessor["sampling_rate"],
      hop_samples=math.prod(config.conv_stride),
      window_samples=_window(config.conv_kernel, config.conv_stride),
      normalize=preprocessor["do_normalize"],
      inputs=lambda clips: (clips,),
      forward=model.forward,
    )

  @classmethod
  def _check(cls, weights: PublicWeights) -> dict[str, Any]:
    """The configuration. Raises InputError where it is another model's."""
    return weights.check_class(["hubert"])


class MertFeatures(HubertFeatures):
  """MERT. By default its 7th block, as open-musiclm's and FastSAG's."""

  name: ClassVar[str] = "mert"
  default_layer: ClassVar[int] = 7

  @classmethod
  def _check(cls, weights: PublicWeights) -> dict[str, Any]:
    config = weights.check_class(["mert_model"])
    for name in ("feature_extractor_cqt", "deepnorm"):
      if config.get(name):
        raise InputError(f"{weights.folder / _CONFIG} has {name} turned on; expected a MERT without it")
    return {name: value for name, value in config.items() if name not in ("model_type", "auto_map")}


def _window(kernels: list[int], strides: list[int]) -> int:
  """Samples that one output of these convolutions sees."""
  window = 1
  for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
    window = (window - 1) * stride + kernel
  return window
