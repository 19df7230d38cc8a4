"""The toy system as a program, or as several processes of one run."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

PROGRAM = pathlib.Path(__file__).parent / "toy_system.py"
ROOT = PROGRAM.parent.parent.parent


def start(model_dir, *arguments, devices=1, prefix=()):
  environment = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "TOY_WITHOUT_TENSORBOARD": "1",
  }
  command = [*prefix, sys.executable, str(PROGRAM), f"--gin.train.model_dir={model_dir}", *arguments]
  return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def free_address():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{found.getsockname()[1]}"


def process_flags(address, count, index):
  return (
    "--multiprocess",
    f"--coordinator_address={address}",
    f"--process_count={count}",
    f"--process_index={index}",
  )


def start_processes(model_dir, count, *arguments, prefixes=None, **options):
  """`count` processes of one run; `prefixes` maps the index of a process to what its command begins with."""
  address, prefixes = free_address(), prefixes or {}
  return [
    start(model_dir, *process_flags(address, count, i), *arguments, prefix=prefixes.get(i, ()), **options)
    for i in range(count)
  ]


def finish_all(processes):
  """Status and output of each."""
  try:
    return [finish(process) for process in processes]
  finally:
    for process in processes:
      process.kill()
      process.communicate()


def finish(process, timeout=120):
  """Its exit status and everything it said."""
  try:
    output, errors = process.communicate(timeout=timeout)
  except subprocess.TimeoutExpired:
    process.kill()
    raise
  return process.returncode, output + errors


def rows(model_dir, split="train"):
  lines = (model_dir / f"metrics/{split}.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def losses(model_dir, split="train"):
  return [(row["step"], row["loss"]) for row in rows(model_dir, split)]


def wait_for_step(model_dir, process):
  """Returns when a step has just been recorded, or the process has ended."""
  file = model_dir / "metrics/train.jsonl"
  while process.poll() is None:
    if file.exists() and file.stat().st_size and time.time() - file.stat().st_mtime < 0.05:
      return
    time.sleep(0.005)


def saved_steps(model_dir):
  return sorted(int(path.name) for path in (model_dir / "checkpoints").iterdir() if path.name.isdecimal())
