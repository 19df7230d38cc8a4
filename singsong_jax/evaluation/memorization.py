"""Can training data be extracted verbatim? (SingSong §6, after Carlini et al. 2022)

Vocals of the training data go in, the decoder is prompted with the first k semantic codes of the true
instrumental, and decodes the other 250 − k greedily. Trials that match the truth exactly are counted; beside
the paper's count stand the longest stretch that matches, the share of codes that match, and all of them
against another clip's truth: what is in common by chance, or because music repeats.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from singsong_jax import files
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.systems.singsong import SingSong

PROMPTS = (0, 25, 50, 125, 225)  # of 250: the paper's
_INPUTS, _TRUTHS = "inputs", "truths"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One length of prompt.

  Attributes:
    prompt: k.
    trials: clips.
    exact: trials whose every decoded code is the truth's.
    longest_mean, longest_max: codes in the longest matching stretch, over trials.
    matching: share of the decoded codes that match.
    chance_…: the same against the truth of another clip.
  """

  prompt: int
  trials: int
  exact: int
  longest_mean: float
  longest_max: int
  matching: float
  chance_exact: int
  chance_longest_mean: float
  chance_longest_max: int
  chance_matching: float


def semantic_stage(system: SingSong) -> SingSong:
  """The same model, which stops after the semantic codes: parameters do not depend on lengths.

  Raises:
    InputError: it has no semantic codes to decode.
  """
  if not system.target_layout.semantic_length:
    raise InputError(
      f"features {system.features!r} decode no semantic codes, which the memorisation protocol is about"
    )
  return dataclasses.replace(system, features="s_s")


def continuations(
  system: SingSong, params: Any, inputs: np.ndarray, truths: np.ndarray, prompt: int
) -> np.ndarray:
  """Greedy semantic ids after a prompt.

  Args:
    system: of `semantic_stage`.
    inputs: ids of the encoder, int32 `[B, S]`.
    truths: semantic ids of the true instrumentals, int32 `[B, T]`.
    prompt: how many of them are given.

  Returns:
    int32 `[B, T]`, the prompt included.
  """
  batch = {"encoder_input_tokens": inputs, "decoder_target_tokens": truths}
  spans = ((0, prompt),) if prompt else ()
  options = SamplingOptions(greedy=True)
  return np.asarray(system.generate(params, batch, jax.random.key(0), options, forced_spans=spans))


def longest_match(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Codes in the longest stretch at which rows of both `[B, T]` are equal: int `[B]`."""
  longest = run = np.zeros(len(one), int)
  for equal in (one == other).T:
    run = np.where(equal, run + 1, 0)
    longest = np.maximum(longest, run)
  return longest


def analyse(
  system: SingSong,
  params: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  prompts: Sequence[int] = PROMPTS,
  max_clips: int | None = None,
  folder: pathlib.Path | None = None,
) -> list[Row]:
  """Runs the protocol.

  Args:
    system: any SingSong with semantic codes in its target.
    batches: of its training data: `encoder_input_tokens`, `decoder_target_tokens`, `decoder_loss_weights`;
      rows of weight 0 are no clips.
    prompts: each less than the number of semantic codes.
    max_clips: the first ones alone.
    folder: where what was decoded of each batch is kept, so that the same call goes on.

  Raises:
    InputError: a prompt that leaves nothing to decode, fewer than two clips, or a folder that has other
      clips.
  """
  stage = semantic_stage(system)
  length = stage.target_layout.length
  for prompt in prompts:
    if not 0 <= prompt < length:
      raise InputError(f"a prompt of {prompt} codes: 0 … {length - 1} of {length} may be given")
  found: list[dict[str, np.ndarray]] = []
  missing = max_clips if max_clips is not None else sys.maxsize
  for index, batch in enumerate(batches):
    clips = np.flatnonzero(batch["decoder_loss_weights"].any(axis=1))[:missing]
    missing -= len(clips)
    path = folder and folder / f"{index:06d}.npz"
    decoded = _decoded(stage, params, batch, prompts, path)
    found.append({name: ids[clips] for name, ids in decoded.items()})
    if not missing:
      break
  together = {name: np.concatenate([part[name] for part in found]) for name in (found[0] if found else ())}
  truths = together.get(_TRUTHS, np.zeros((0, length), np.int32))
  if len(truths) < 2:
    raise InputError(f"{len(truths)} clips are too few: chance is measured against another one's truth")
  return [_row(together[str(prompt)], truths, prompt) for prompt in prompts]


def _decoded(
  stage: SingSong,
  params: Any,
  batch: Mapping[str, np.ndarray],
  prompts: Sequence[int],
  path: pathlib.Path | None,
) -> dict[str, np.ndarray]:
  """Ids: the encoder's `[B, S]`, the true ones `[B, T]`, and each prompt's continuations by its number.

  Kept in `path`, if there is one.
  """
  inputs = np.asarray(batch["encoder_input_tokens"])
  given = {
    _INPUTS: inputs,
    _TRUTHS: np.asarray(batch["decoder_target_tokens"][:, : stage.target_layout.length]),
  }
  if path and path.exists():
    with np.load(path, allow_pickle=False) as stored:
      known = dict(stored)
    if known.keys() != {*given, *map(str, prompts)} or not all(
      np.array_equal(known[name], ids) for name, ids in given.items()
    ):
      raise InputError(f"{path} is of other clips or prompts: take another folder")
    return known
  made = {str(prompt): continuations(stage, params, inputs, given[_TRUTHS], prompt) for prompt in prompts}
  if path:
    files.make_folder(path.parent)
    with files.replacing(path) as temporary:
      np.savez_compressed(temporary, **given, **made)
  return {**given, **made}


def as_markdown(rows: list[Row]) -> str:
  """A line for each prompt; in brackets, against another clip's truth."""
  lines = [
    "| given codes | clips | exact | longest match, mean | longest | codes that match |",
    "|---:|---:|---:|---:|---:|---:|",
  ]
  lines += [
    f"| {row.prompt} | {row.trials} | {row.exact} ({row.chance_exact}) | {row.longest_mean:.1f} "
    f"({row.chance_longest_mean:.1f}) | {row.longest_max} ({row.chance_longest_max}) | "
    f"{row.matching:.1%} ({row.chance_matching:.1%}) |"
    for row in rows
  ]
  return "\n".join([*lines, "", "In brackets: against another clip's truth.", ""])


def _row(made: np.ndarray, truths: np.ndarray, prompt: int) -> Row:
  found, chance = (
    _matches(made[:, prompt:], other[:, prompt:]) for other in (truths, np.roll(truths, 1, axis=0))
  )
  return Row(
    prompt=prompt, trials=len(truths), **found, **{f"chance_{name}": value for name, value in chance.items()}
  )


def _matches(made: np.ndarray, truths: np.ndarray) -> dict[str, Any]:
  longest = longest_match(made, truths)
  return {
    "exact": int((made == truths).all(axis=1).sum()),
    "longest_mean": float(longest.mean()),
    "longest_max": int(longest.max()),
    "matching": float((made == truths).mean()),
  }
