"""Tokens per second of generation: this project's against t5x's, Hugging Face's and a plain sampler's.

    python -m benchmarks.decode --quick
    python -m benchmarks.decode --output=benchmarks/results/decode_<processor>.json

One process, the same sizes and weights' type for all, one contender after the other in every round, so
that a noisy machine is noisy for all of them; medians over rounds. A contender's first run, in which it
compiles, is not counted. See docs/benchmarks.md.
"""

import dataclasses
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import reports, sizes
from benchmarks.decode_contenders import CONTENDERS, Absent, Run
from singsong_jax import cli, files
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.windows import Geometry

_QUICK = flags.DEFINE_bool("quick", False, "Only the 4 + 4 layer model, and few rounds: under 5 minutes.")
_WINDOW = flags.DEFINE_float("window_seconds", 10.0, "Length of what is generated; 10 s are 2250 tokens.")


@dataclasses.dataclass(frozen=True)
class Group:
  """What is timed together: all contenders on one model, batch and length, and ours on half the length.

  Attributes:
    window: share of --window_seconds that is generated.
    rounds: times each contender runs after its first run.
  """

  model: str
  batch: int
  window: float
  rounds: int
  with_half: bool = False


@dataclasses.dataclass
class Timed:
  """A contender in a group. Times are wall-clock seconds of whole runs."""

  model: str
  batch: int
  tokens: int
  contender: str
  first_seconds: float  # with compilation
  seconds: list[float] = dataclasses.field(default_factory=list)

  @property
  def median(self) -> float:
    return statistics.median(self.seconds)

  @property
  def tokens_per_second(self) -> float:
    return self.batch * self.tokens / self.median

  def as_json(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self), "tokens_per_second": self.tokens_per_second}


QUICK = (Group("4+4", 1, 1.0, 3, with_half=True), Group("4+4", 8, 0.2, 2))
QUICK_SECONDS = 150  # after so long --quick begins no further round, unless it is a group's first
FULL = (
  Group("4+4", 1, 1.0, 7, with_half=True),
  Group("4+4", 8, 0.5, 3),
  Group("base", 1, 0.2, 2),
  Group("base", 8, 0.1, 2),
)


def main(_) -> None:
  started = time.perf_counter()
  absent: dict[str, str] = {}
  groups, deadline = (QUICK, started + QUICK_SECONDS) if _QUICK.value else (FULL, float("inf"))
  timed = [t for group in groups for t in measure(group, _WINDOW.value, deadline, absent)]
  ratios = summary(timed)
  for message in sorted(set(absent.values())):
    print(f"not compared: {message}")
  print_table(timed)
  if reports.OUTPUT.value:
    report = {
      "command": shlex.join(["python", "-m", "benchmarks.decode", *sys.argv[1:]]),
      "machine": reports.describe_machine(),
      "seconds": time.perf_counter() - started,
      "absent": absent,
      "results": [t.as_json() for t in timed],
      "summary": ratios,
    }
    files.write_json(reports.OUTPUT.value, report)
  print(json.dumps(ratios))


def measure(group: Group, window_seconds: float, deadline: float, absent: dict[str, str]) -> list[Timed]:
  """Times a group's contenders in turn; why one could not take part goes into `absent`."""
  runs = prepare(group, group.window * window_seconds, absent)
  for round_number in range(1, group.rounds + 1):
    if round_number > 1 and time.perf_counter() > deadline:
      break
    say(f"{group.model}, batch {group.batch}: round {round_number} of {group.rounds}")
    for timed, run in runs:
      timed.seconds.append(time_run(run, round_number, (timed.batch, timed.tokens)))
  return [timed for timed, _ in runs]


def prepare(group: Group, seconds: float, absent: dict[str, str]) -> list[tuple[Timed, Run]]:
  """Makes a group's contenders for windows of `seconds` and runs each once."""
  wanted = [(seconds, name) for name in CONTENDERS] + [(seconds / 2, "ours")] * group.with_half
  params = None
  runs: list[tuple[Timed, Run]] = []
  for window_seconds, name in wanted:
    system = SingSong(network=network(group.model), geometry=Geometry(window_seconds=window_seconds))
    if params is None:  # no shape depends on the length
      params = jax.jit(system.init)(jax.random.key(0))
    tokens = system.target_layout.length
    say(f"{group.model}, batch {group.batch}, {tokens} tokens: preparing {name}")
    shape = (group.batch, system.input_layout.length)
    inputs = np.random.default_rng(0).integers(2, 1026, shape, np.int32)
    try:
      run = CONTENDERS[name](system, params, inputs)
    except Absent as error:
      absent[name] = str(error)
      continue
    first = time_run(run, 0, (group.batch, tokens))
    runs.append((Timed(group.model, group.batch, tokens, name, first), run))
  return runs


def network(model: str) -> EncoderDecoderConfig:
  """Sizes by name, in float32: the type that is fastest on CPUs."""
  if model == "base":
    return sizes.encoder_decoder("base", dtype="float32")
  return EncoderDecoderConfig(
    emb_dim=256,
    num_heads=4,
    head_dim=64,
    mlp_dim=1024,
    num_encoder_layers=4,
    num_decoder_layers=4,
    dtype="float32",
  )


def time_run(run: Run, seed: int, shape: tuple[int, int]) -> float:
  """Seconds of one run, until its ids are there."""
  started = time.perf_counter()
  ids = jax.block_until_ready(run(seed))
  seconds = time.perf_counter() - started
  assert ids.shape == shape, f"{ids.shape} ids came instead of {shape}"
  return seconds


def summary(timed: Sequence[Timed]) -> dict[str, float | None]:
  """How many times faster than the others ours is on the first group (4 + 4 layers, batch 1)."""
  first = [t for t in timed if (t.model, t.batch) == (timed[0].model, timed[0].batch)]
  longest = max(t.tokens for t in first)
  whole = {t.contender: t.median for t in first if t.tokens == longest}
  half = next(t.median for t in first if t.tokens < longest)
  ratio = lambda name: round(whole[name] / whole["ours"], 3) if name in whole else None
  return {
    "ratio_vs_t5x_b1": ratio("t5x"),
    "ratio_vs_t5x_without_bias_b1": ratio("t5x_without_bias"),
    "ratio_vs_hf_b1": ratio("hugging_face"),
    "ratio_vs_plain_b1": ratio("plain"),
    "growth_2250_vs_1125": round(whole["ours"] / half, 3),
  }


def print_table(timed: Sequence[Timed]) -> None:
  headings = ("model", "batch", "tokens", "sampler", "tokens/s", "seconds", "first run, s")
  reports.print_table(
    headings,
    [
      (
        t.model,
        f"{t.batch}",
        f"{t.tokens}",
        t.contender,
        f"{t.tokens_per_second:.0f}",
        f"{t.median:.2f}",
        f"{t.first_seconds:.1f}",
      )
      for t in timed
    ],
  )


def say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads wait asleep: cores may be shared
  cli.run(main)
