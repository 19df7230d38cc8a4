"""The rows of `benchmarks/gpu.py`, measured one at a time by a process of their own.

Reads a row a line from stdin, `{"kind": …, <its arguments>}`, and answers each with a line of JSON:
`{"status": "ok", <what was measured>}` or `{"status": "failed", "reason": …}`. Needs jax, flax, optax and
gin-config only. Whatever else is printed goes to stderr.
"""

import gc
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import reports, sizes
from singsong_jax.networks import flops
from singsong_jax.networks.attention import dot_product_attention
from singsong_jax.systems.base import Params, System
from singsong_jax.systems.fine import Fine
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.fine import FineLayout
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training import accelerators
from singsong_jax.training.optimizers import adafactor
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps

Measures = dict[str, Any]
REASON_LENGTH = 300  # characters of an error that are reported


def device() -> Measures:
  """What the rows are measured on."""
  first = jax.devices()[0]
  limit = (first.memory_stats() or {}).get("bytes_limit")
  return {
    "device": first.device_kind,
    "usable_memory_gib": limit and round(limit / 2**30, 1),
    "peak_flops": _peak_flops(),
    "cuda_packages": {
      package.name: package.version
      for package in importlib.metadata.distributions()
      if package.name.startswith(("nvidia-cudnn", "jax-cuda"))
    },
    **reports.describe_machine(),
  }


def decode(*, size: str, batch: int, window_seconds: float) -> Measures:
  """Semantic and coarse tokens of `batch` windows at once; seconds of a whole window, encoder included."""
  system = SingSong(
    network=sizes.encoder_decoder(size, dtype="bfloat16"), geometry=Geometry(window_seconds=window_seconds)
  )
  shape = (batch, system.input_layout.length)
  inputs = {"encoder_input_tokens": jnp.asarray(np.random.default_rng(0).integers(2, 1026, shape, np.int32))}
  measured = _time_generation(system, inputs)
  return measured | _speed(measured["seconds"], batch * window_seconds, batch * system.target_layout.length)


def fine(*, size: str, chunk_seconds: float, audio_seconds: float) -> Measures:
  """Fine tokens of `audio_seconds`: the whole chunks as one batch, then the rest with what it is given."""
  layout = FineLayout(chunk_seconds=chunk_seconds)
  system = Fine(network=sizes.fine_decoder(size, dtype="bfloat16"), layout=layout)
  chunks, rest = divmod(round(audio_seconds * layout.acoustic_rate_hz), layout.frames)
  known = (layout.frames - rest) * layout.num_fine_levels
  span = (layout.coarse_length, layout.coarse_length + known)
  parts = [(chunks, ()), (1, (span,))]  # rows, further forced spans
  measured = []
  for rows, spans in parts:
    codes = np.random.default_rng(0).integers(0, 1024, (rows, layout.frames, layout.num_levels))
    batch = {"decoder_target_tokens": layout.encode(codes)}
    measured.append(_time_generation(system, batch, forced_spans=spans))
  total = {name: sum(part[name] for part in measured) for name in measured[0]}
  tokens = (chunks * layout.frames + rest) * layout.num_fine_levels
  return total | _speed(total["seconds"], audio_seconds, tokens)


def train(
  *, size: str, features: str, batch: int, microbatches: int, window_seconds: float, **computed: Any
) -> Measures:
  """One update of the trainer's own step: forward, backward, Adafactor. Memory is what XLA planned.

  `computed`: settings of how the network is computed, see `TransformerConfig`.
  """
  system = SingSong(
    network=sizes.encoder_decoder(size, dtype="bfloat16", vocab_multiple=128, **computed),
    features=features,
    geometry=Geometry(window_seconds=window_seconds),
  )
  partitioner = Partitioner()
  steps = Steps(system, adafactor(), partitioner, seed=0, num_microbatches=microbatches)
  state, rows = steps.init(), partitioner.put_batch(_training_batch(system, batch))
  started = time.perf_counter()
  compiled = steps.train.lower(state, rows).compile()
  compile_seconds = time.perf_counter() - started

  def update() -> jax.Array:
    nonlocal state
    state, sums = compiled(state, rows)
    return sums["loss"][0]

  jax.block_until_ready(update())
  seconds = _median_seconds(update)
  return {
    "seconds": seconds,
    "compile_seconds": compile_seconds,
    "tokens_per_second": batch * system.target_layout.length / seconds,
    "memory_gib": _planned_gib(compiled),
    **_utilisation(system.training_flops(batch), seconds),
  }


def attention(
  *, implementation: str, batch: int, heads: int, queries: int, keys: int, head_dim: int
) -> Measures:
  """Attention forward and backward in bfloat16; causal where there are as many queries as keys.

  `implementation` is 'ours' (`dot_product_attention`), or one of `jax.nn.dot_product_attention`'s.
  """
  causal = queries == keys
  if implementation == "ours":
    shape = lambda length: (batch, heads, length, head_dim)
    attend = lambda q, k, v: dot_product_attention(q, k, v, causal=causal)
  else:
    shape = lambda length: (batch, length, heads, head_dim)
    attend = lambda q, k, v: jax.nn.dot_product_attention(
      q, k, v, scale=1.0, is_causal=causal, implementation=implementation
    )

  @jax.jit
  def step(query, key, value, gradient):
    output, backward = jax.vjp(attend, query, key, value)
    return output, backward(gradient)

  lengths = (queries, keys, keys, queries)
  draws = [jax.random.normal(jax.random.key(i), shape(n), jnp.bfloat16) for i, n in enumerate(lengths)]
  started = time.perf_counter()
  compiled = step.lower(*draws).compile()
  compile_seconds = time.perf_counter() - started
  run = lambda: compiled(*draws)
  jax.block_until_ready(run())
  seconds = _median_seconds(run)
  work = flops.attention_step(batch, heads, queries, keys, head_dim, causal)
  return {
    "seconds": seconds,
    "compile_seconds": compile_seconds,
    "memory_gib": _planned_gib(compiled),
    **_utilisation(work, seconds),
  }


KINDS: dict[str, Callable[..., Measures]] = {
  "device": device,
  "decode": decode,
  "fine": fine,
  "train": train,
  "attention": attention,
}


def _time_generation(system: System, batch: dict[str, Any], **options) -> Measures:
  params: Params = jax.jit(lambda key: nn.unbox(system.init(key)))(jax.random.key(0))
  seeds = iter(range(1_000_000))
  run = lambda: system.generate(params, batch, jax.random.key(next(seeds)), **options)
  started = time.perf_counter()
  jax.block_until_ready(run())
  first = time.perf_counter() - started
  seconds = _median_seconds(run)
  return {"seconds": seconds, "compile_seconds": first - seconds}


def _speed(seconds: float, audio_seconds: float, tokens: int) -> Measures:
  return {
    "tokens_per_second": tokens / seconds,
    "audio_seconds_per_second": audio_seconds / seconds,
    "real_time_factor": seconds / audio_seconds,
  }


def _utilisation(work: float, seconds: float) -> Measures:
  peak, rate = _peak_flops(), work / seconds
  return {"tflops_per_second": rate / 1e12, "model_flops_utilisation": peak and rate / peak}


def _peak_flops() -> float | None:
  accelerator = accelerators.find(jax.devices()[0].device_kind)
  return accelerator and accelerator.peak_flops


def _training_batch(system: System, batch: int) -> dict[str, np.ndarray]:
  """Random ids in the shapes and types of a training batch; every position counts."""
  rng = np.random.default_rng(0)
  ids = {name: rng.integers(1, 1026, x.shape, x.dtype) for name, x in system.batch_shapes(batch).items()}
  return ids | {"decoder_loss_weights": np.ones_like(ids["decoder_loss_weights"])}


def _median_seconds(run: Callable[[], Any], *, least_runs: int = 3, least_seconds: float = 1.0) -> float:
  """Median of the seconds that `run` takes, its result included; it has run before."""
  seconds: list[float] = []
  while len(seconds) < least_runs or sum(seconds) < least_seconds:
    started = time.perf_counter()
    jax.block_until_ready(run())
    seconds.append(time.perf_counter() - started)
  return statistics.median(seconds)


def _planned_gib(compiled: Any) -> float:
  """Memory of a compiled function: arguments, results that reuse none of them, and temporaries."""
  plan = compiled.memory_analysis()
  results = plan.output_size_in_bytes - plan.alias_size_in_bytes
  return (plan.argument_size_in_bytes + results + plan.temp_size_in_bytes) / 2**30


def _reason(error: Exception) -> str:
  text = " ".join(f"{type(error).__name__}: {error}".split())
  return f"out of memory: {text}"[:REASON_LENGTH] if "RESOURCE_EXHAUSTED" in text else text[:REASON_LENGTH]


def measure(row: dict[str, Any]) -> Measures:
  """Measures one row; an error becomes the row's reason, and what it held is let go."""
  arguments = {name: value for name, value in row.items() if name != "kind"}
  try:
    return {"status": "ok", **KINDS[row["kind"]](**arguments)}
  except Exception as error:
    return {"status": "failed", "reason": _reason(error)}
  finally:
    jax.clear_caches()  # compiled functions keep constants on the device
    gc.collect()


def main() -> None:
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  for line in sys.stdin:
    print(json.dumps(measure(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
  main()
