"""Seconds of a training step: this project's against upstream t5x's, which is t5x's trainer and network.

    python -m benchmarks.train_vs_t5x --output=benchmarks/results/train_vs_t5x_<processor>.json

The same sizes, batch, Adafactor and dropout of 0.1; float32. Each contender lives in a process of its own,
and they step in turn, so that a noisy machine is noisy for all; who does not step waits. Medians over rounds;
a contender's first step, in which it compiles, is not counted. See docs/benchmarks.md.
"""

import dataclasses
import json
import multiprocessing
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import reports
from benchmarks.decode_contenders import T5X_ABSENT
from singsong_jax import cli, files
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.windows import Geometry
from singsong_jax.training.optimizers import adafactor
from singsong_jax.training.partitioning import Partitioner
from singsong_jax.training.step import Steps

_ROUNDS = flags.DEFINE_integer(
  "rounds", 7, "Times each contender steps, after its first step.", lower_bound=1
)
_BATCH = flags.DEFINE_integer("batch", 4, "Rows of the batch.", lower_bound=1)
_INPUTS = flags.DEFINE_integer("inputs", 250, "Tokens of the encoder.", lower_bound=1)
_WINDOW = flags.DEFINE_float("target_seconds", 5.0, "Length of the targets; 5 s are 1125 tokens.")
_LAYERS = flags.DEFINE_integer("layers", 4, "Layers of the encoder, and of the decoder.", lower_bound=1)

Step = Callable[[], Any]  # one update, done when it returns
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is trained."""

  layers: int
  batch: int
  inputs: int
  window_seconds: float

  @property
  def system(self) -> SingSong:
    network = EncoderDecoderConfig(
      emb_dim=256,
      num_heads=4,
      head_dim=64,
      mlp_dim=1024,
      num_encoder_layers=self.layers,
      num_decoder_layers=self.layers,
      dtype="float32",
    )
    return SingSong(network=network, geometry=Geometry(window_seconds=self.window_seconds))

  @property
  def tokens(self) -> int:
    """Target tokens in a batch."""
    return self.batch * self.system.target_layout.length

  def make_batch(self) -> Batch:
    rng = np.random.default_rng(0)
    draw = lambda length: rng.integers(2, 1026, (self.batch, length), np.int32)
    targets = draw(self.tokens // self.batch)
    return {
      "encoder_input_tokens": draw(self.inputs),
      "decoder_input_tokens": targets,
      "decoder_target_tokens": targets,
      "decoder_loss_weights": np.ones_like(targets),
    }


def ours(setting: Setting) -> Step:
  """The native trainer's step."""
  partitioner = Partitioner()
  steps = Steps(setting.system, adafactor(), partitioner, seed=0, num_microbatches=1)
  batch = partitioner.put_batch(setting.make_batch())
  state = steps.init()

  def step() -> None:
    nonlocal state
    state, _ = steps.train(state, batch)
    jax.block_until_ready(state)

  return step


def t5x(setting: Setting) -> Step:
  """The step that upstream's trainer compiles, of its `EncoderDecoderModel` and `examples/t5` network."""
  import seqio
  import t5x.adafactor
  import t5x.models
  from t5x.examples.t5 import network

  ours = setting.system.network
  sizes = ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim", "dropout_rate", "mlp_activations")
  layers = ("num_encoder_layers", "num_decoder_layers")
  config = {name: getattr(ours, name) for name in (*sizes, *layers)}
  module = network.Transformer(network.T5Config(**config, dtype=jnp.dtype(ours.dtype)))
  vocabulary = seqio.PassThroughVocabulary(size=ours.vocab_size)
  optimizer = t5x.adafactor.Adafactor()
  return _upstream(
    t5x.models.EncoderDecoderModel(module, vocabulary, vocabulary, optimizer, z_loss=1e-4), setting
  )


def t5x_our_network(setting: Setting) -> Step:
  """The step that upstream's trainer compiles of our network and loss, through the adapter."""
  import t5x.adafactor

  from singsong_jax.training.t5x_adapter import SystemModel
  from tasks.singsong import SingSongExamples

  examples = SingSongExamples(vocals="noisy", features="s_sa", geometry=Geometry(window_seconds=10))
  return _upstream(SystemModel(setting.system, examples, t5x.adafactor.Adafactor()), setting)


def _upstream(model: Any, setting: Setting) -> Step:
  from t5x import partitioning, trainer, utils

  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  batch = {name: jnp.asarray(x) for name, x in setting.make_batch().items()}
  shapes = setting.system.batch_shapes(setting.batch)  # no parameter depends on the lengths
  initializer = utils.TrainStateInitializer(
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes={name: x.shape for name, x in shapes.items()},
    input_types={name: x.dtype for name, x in shapes.items()},
    partitioner=partitioner,
  )
  upstream = trainer.Trainer(
    model=model,
    train_state=initializer.from_scratch(jax.random.PRNGKey(0)),
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=initializer.train_state_axes,
    rng=jax.random.PRNGKey(0),
    learning_rate_fn=utils.create_learning_rate_scheduler(),
    num_microbatches=None,
  )
  upstream.compile_train(batch)
  state = upstream.train_state

  def step() -> None:
    nonlocal state
    state, _ = upstream._compiled_train_step(state, batch)  # its loop would add the writing of metrics
    jax.block_until_ready(state)

  return step


CONTENDERS = {"ours": ours, "t5x": t5x, "t5x_our_network": t5x_our_network}


class Worker:
  """A contender in a process of its own. Its times are wall-clock seconds."""

  def __init__(self, name: str, setting: Setting):
    context = multiprocessing.get_context("spawn")
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(target=_work, args=(name, setting, theirs), daemon=True)
    self._process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    self.absent, self.first_seconds = self._pipe.recv()

  def step(self) -> float:
    self._pipe.send("step")
    return self._pipe.recv()

  def stop(self) -> float:
    """Ends the process; returns the most memory it had, in GiB."""
    self._pipe.send("stop")
    peak = self._pipe.recv()
    self._process.join()
    return peak


def _work(name: str, setting: Setting, pipe) -> None:
  started = time.perf_counter()
  try:
    step = CONTENDERS[name](setting)
  except ImportError as error:
    pipe.send((T5X_ABSENT.format(error=error), 0.0))
    return
  step()
  pipe.send((None, time.perf_counter() - started))
  while pipe.recv() == "step":
    started = time.perf_counter()
    step()
    pipe.send(time.perf_counter() - started)
  pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def measure(setting: Setting, rounds: int) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
  """What each contender took, and why one could not take part."""
  workers = {name: Worker(name, setting) for name in CONTENDERS}
  absent = {name: worker.absent for name, worker in workers.items() if worker.absent}
  workers = {name: worker for name, worker in workers.items() if not worker.absent}
  seconds: dict[str, list[float]] = {name: [] for name in workers}
  for _ in range(rounds):
    for name, worker in workers.items():
      seconds[name].append(worker.step())
      print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
  results = {
    name: {
      "first_seconds": worker.first_seconds,
      "seconds": seconds[name],
      "target_tokens_per_second": setting.tokens / statistics.median(seconds[name]),
      "peak_memory_gib": worker.stop(),
    }
    for name, worker in workers.items()
  }
  return results, absent


def summary(results: dict[str, dict[str, Any]]) -> dict[str, float | None]:
  """How many times as fast ours is, by medians; None without t5x."""
  medians = {name: statistics.median(result["seconds"]) for name, result in results.items()}
  ratio = lambda name: round(medians[name] / medians["ours"], 3) if name in medians else None
  return {"ratio_vs_t5x": ratio("t5x"), "ratio_vs_t5x_with_our_network": ratio("t5x_our_network")}


def main(_) -> None:
  setting = Setting(_LAYERS.value, _BATCH.value, _INPUTS.value, _WINDOW.value)
  results, absent = measure(setting, _ROUNDS.value)
  for message in absent.values():
    print(f"not compared: {message}")
  reports.print_table(
    ("trainer", "s a step", "target tokens/s", "peak GiB"),
    [
      (
        name,
        f"{statistics.median(result['seconds']):.2f}",
        f"{result['target_tokens_per_second']:,.0f}",
        f"{result['peak_memory_gib']:.1f}",
      )
      for name, result in results.items()
    ],
  )
  if reports.OUTPUT.value:
    report = {
      "command": shlex.join(["python", "-m", "benchmarks.train_vs_t5x", *sys.argv[1:]]),
      "machine": reports.describe_machine(),
      "setting": dataclasses.asdict(setting),
      "absent": absent,
      "results": results,
      "summary": summary(results),
    }
    files.write_json(reports.OUTPUT.value, report)
  print(json.dumps(summary(results)))


if __name__ == "__main__":
  cli.run(main)
