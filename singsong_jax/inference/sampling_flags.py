"""The flags of commands that sample; what is not given is as the model is best played."""

import dataclasses
from typing import Any

from absl import flags

from singsong_jax.decoding.sampling import SamplingOptions

_FLAGS = {
  "temperature": flags.DEFINE_float("temperature", None, "of semantic and coarse codes; 0.85 is the paper's"),
  "greedy": flags.DEFINE_bool("greedy", None, "take the likeliest code at every position"),
  "top_k": flags.DEFINE_integer("top_k", None, "sample these among the k likeliest; 0: among all"),
  "top_p": flags.DEFINE_float(
    "top_p", None, "sample them among the likeliest that sum to this probability; 1: among all"
  ),
  "guidance_scale": flags.DEFINE_float(
    "guidance_scale",
    None,
    "above 1: away from what the model plays for silence; 1: off. Takes twice the time",
  ),
}


def given_options() -> dict[str, Any]:
  """The fields of `SamplingOptions` that flags say."""
  return {name: flag.value for name, flag in _FLAGS.items() if flag.value is not None}


def chosen_options(defaults: SamplingOptions) -> SamplingOptions:
  """`defaults` with what the flags say. Raises InputError where a flag is out of range."""
  return dataclasses.replace(defaults, **given_options())
