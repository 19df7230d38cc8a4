"""MusicFM (Won et al. 2023) and MuQ (Zhu et al. 2025): encoders of music with 25 frames a second.

    24 kHz → log-mel [128 bands, 100 a second] → 2 residual blocks of 2-D convolutions, strides 2·2 → linear
      → 12 Conformer blocks with rotary positions

Neither's own code runs with current `transformers`, and both need torchaudio. Their networks are the same:
`musicfm_network.py`.
"""

import os
from typing import Any, ClassVar, Self

from singsong_jax.audio.public_weights import TORCH_WEIGHTS, PublicWeights, import_extra, locate
from singsong_jax.audio.torch_models import check_missing, import_torch, ready, unfit
from singsong_jax.errors import InputError
from singsong_jax.semantics.pretrained import Network, PretrainedFeatures

_SAMPLE_RATE_HZ = 24_000
_MUSICFM_HOP_SAMPLES = 240  # of log-mel frames; MuQ's is in its configuration
# What published weights hold besides: targets and heads of training, and a position embedding without a use.
_UNUSED = (
  "cls_token",
  "conformer.pos_conv_embed.",
  "linear.",
  "preprocessor_",
  "quantizer_",
  "recon_proj.",
  "rvq.",
)


class MuqFeatures(PretrainedFeatures):
  """MuQ: `OpenMuQ/MuQ-large-msd-iter`. By default its 7th block, as MusicFM's."""

  name: ClassVar[str] = "muq"
  configs: ClassVar[tuple[str, ...]] = ("config.json",)
  weight_files: ClassVar[tuple[str, ...]] = TORCH_WEIGHTS
  default_layer: ClassVar[int] = 7

  @classmethod
  def _open(cls, weights: PublicWeights) -> Network:
    config = weights.read_json("config.json")
    if "w2v2_config" not in config or "stat" not in config:
      raise InputError(f"{weights.folder / 'config.json'} has no w2v2_config or no stat; expected MuQ's")
    if config.get("label_rate", 25) != 25:
      raise InputError(f"{weights.folder / 'config.json'} has label_rate {config['label_rate']}; expected 25")
    return _network(cls.name, weights, config["stat"], config["hop_length"], config["w2v2_config"])


class MusicFmFeatures(PretrainedFeatures):
  """MusicFM: `minzwon/MusicFM`. By default its 7th block, as in its authors' example."""

  name: ClassVar[str] = "musicfm"
  default_layer: ClassVar[int] = 7

  @classmethod
  def from_pretrained(
    cls,
    source: str | os.PathLike,
    layer: int | None = None,
    pool: int | None = None,
    num_codes: int = 1024,
    trained_on: str = "fma",
  ) -> Self:
    """As `PretrainedFeatures.from_pretrained`.

    Args:
      trained_on: 'fma' or 'msd': `pretrained_fma.pt` and `fma_stats.json`, or those of the other.
    """
    if trained_on not in ("fma", "msd"):
      raise InputError(f"trained_on is {trained_on!r}; choose fma or msd")
    weights = locate(source, [f"{trained_on}_stats.json"], [f"pretrained_{trained_on}.pt"])
    return cls.load(weights, layer=layer or cls.default_layer, pool=pool, num_codes=num_codes)

  @classmethod
  def _open(cls, weights: PublicWeights) -> Network:
    # That of wav2vec2-conformer-rope-large, as far as weights do not tell it.
    config = {"hidden_act": "swish", "position_embeddings_type": "rotary"}
    return _network(cls.name, weights, weights.read_json(weights.names[0]), _MUSICFM_HOP_SAMPLES, config)


def _network(
  what: str, weights: PublicWeights, stats: dict[str, float], hop_samples: int, config: dict[str, Any]
) -> Network:
  """The network of either."""
  import_extra("transformers", "torch", f"the semantic encoder {what}")
  from singsong_jax.semantics import musicfm_network

  state = _read_state(what, weights)
  try:
    mean, std = stats["melspec_2048_mean"], stats["melspec_2048_std"]
    model = musicfm_network.build(state, config, _SAMPLE_RATE_HZ, hop_samples, mean, std)
    missing, left = model.load_state_dict(state, strict=False)
  except (KeyError, RuntimeError, TypeError, ValueError) as error:
    raise unfit(weights, what, f"{type(error).__name__} {error}") from error
  check_missing(weights, what, [*missing, *left])
  return Network(
    model=ready(model),
    blocks=model.conformer.layers,
    dims=model.conformer.config.hidden_size,
    sample_rate_hz=_SAMPLE_RATE_HZ,
    hop_samples=hop_samples * musicfm_network.STRIDE,
    window_samples=hop_samples * musicfm_network.STRIDE,  # beyond a clip's ends it is mirrored
    normalize=False,
    inputs=lambda clips: (clips,),
    forward=model.forward,
  )


def _read_state(what: str, weights: PublicWeights) -> dict[str, Any]:
  """The weights that the network uses, by their names in it."""
  from safetensors.torch import load_file

  torch = import_torch()
  state: dict[str, Any] = {}
  for path in (weights.folder / name for name in weights.names if not name.endswith(".json")):
    try:
      if path.suffix == ".safetensors":
        state |= load_file(path)
      else:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        state |= loaded.get("state_dict", loaded)
    except Exception as error:  # pickle and safetensors have many of their own
      raise unfit(weights, what, error) from error
  names = {name.removeprefix("model."): name for name in state}
  return {name: state[full] for name, full in names.items() if not name.startswith(_UNUSED)}
