import json
import types

import jax
import jax.numpy as jnp
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training import accelerators, loop, monitoring
from singsong_jax.training.monitoring import MEASURED, Monitor, Profile


class Clock:
  def __init__(self, monkeypatch):
    self.now = 100.0
    monkeypatch.setattr(monitoring.time, "perf_counter", lambda: self.now)


class System:
  @staticmethod
  def training_flops(batch_size):
    return 10.0 * batch_size


class Computing:
  """Stands for an array whose step is still computing, or not."""

  def __init__(self, ready):
    self.is_ready = lambda: ready


@pytest.fixture
def clock(monkeypatch):
  return Clock(monkeypatch)


def step(monitor, clock, wait, compute, computing=None):
  with monitor.waiting(computing):
    clock.now += wait
  clock.now += compute
  monitor.lap()
  monitor.resume()


def test_speeds_leave_out_the_first_step_and_pauses(clock):
  monitor = Monitor(System())
  step(monitor, clock, 5, 50)
  for _ in range(4):
    step(monitor, clock, 0.5, 1.5)
  monitor.pause()
  clock.now += 1000
  scalars = monitor.take(num_rows=8, tokens_per_step=20)
  assert scalars["steps_per_second"] == pytest.approx(0.5)
  assert scalars["examples_per_second"] == pytest.approx(4)
  assert scalars["tokens_per_second"] == pytest.approx(10)
  assert scalars["input_wait_share"] == pytest.approx(0.25)
  assert "mfu" not in scalars  # nobody says what this CPU can do
  assert "steps_per_second" not in monitor.take(8, 20)


@pytest.mark.parametrize(("ready", "share"), [(True, 0.5), (False, 0.0)])
def test_waiting_counts_only_while_the_devices_have_nothing_to_do(clock, ready, share):
  monitor = Monitor(System())
  monitor.resume()
  step(monitor, clock, 1, 1, {"loss": (Computing(True), Computing(ready))})
  monitor.pause()
  assert monitor.take(8, 20)["input_wait_share"] == share


def test_arrays_know_whether_they_are_computed(clock):
  """What `waiting` asks real arrays."""
  monitor = Monitor(System())
  monitor.resume()
  step(monitor, clock, 1, 0, jax.block_until_ready({"loss": (jnp.ones(()), jnp.ones(()))}))
  monitor.pause()
  assert monitor.take(8, 20)["input_wait_share"] == 1.0


def test_mfu_is_of_all_devices_together(clock, monkeypatch):
  monkeypatch.setattr(accelerators, "find", lambda kind: types.SimpleNamespace(peak_flops=100.0))
  monkeypatch.setattr(jax, "device_count", lambda: 2)
  monitor = Monitor(System())
  monitor.resume()
  step(monitor, clock, 0, 2)
  monitor.pause()
  assert monitor.take(num_rows=8, tokens_per_step=20)["mfu"] == pytest.approx(0.5 * 80 / 200)


def test_memory_is_that_of_the_fullest_device(monkeypatch):
  stats = [{"bytes_in_use": 3, "peak_bytes_in_use": 7}, {"bytes_in_use": 5, "peak_bytes_in_use": 6}]
  devices = [types.SimpleNamespace(memory_stats=lambda one=one: one) for one in stats]
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  scalars = Monitor(System()).take(8, 20)
  assert (scalars["device_memory_bytes"], scalars["device_memory_peak_bytes"]) == (5, 7)
  assert scalars["host_memory_peak_bytes"] > 1e7
  devices.append(types.SimpleNamespace(memory_stats=lambda: None))  # as CPUs answer
  assert set(Monitor(System()).take(8, 20)) == {"host_memory_peak_bytes"}


def rows(model_dir):
  return [json.loads(line) for line in (model_dir / "metrics/train.jsonl").read_text().splitlines()]


def test_a_run_records_what_is_measured_and_a_profile(tmp_path, capsys):
  settings = toy_system.settings(tmp_path, eval_dataset=None, total_steps=6, checkpoint_period=6)
  loop.train(**settings, profile=True)
  first, second, *_ = rows(tmp_path)
  speeds = {"steps_per_second", "examples_per_second", "tokens_per_second", "input_wait_share"}
  assert not speeds & first.keys() and speeds <= second.keys()
  assert 0 <= second["input_wait_share"] <= 1
  assert {"host_memory_peak_bytes"} <= first.keys() and {"gradient_norm", "learning_rate"} <= first.keys()
  assert {k for k in second if "per_second" in k or "memory" in k or "share" in k} <= MEASURED
  (trace,) = (tmp_path / "tensorboard").rglob("*.xplane.pb")
  assert trace.stat().st_size > 1000
  assert f"profile of 3 steps: {tmp_path}/tensorboard" in capsys.readouterr().err


def test_a_profile_is_of_the_steps_asked_for(monkeypatch, tmp_path):
  calls, step = [], 0
  monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(("start", step)))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append(("stop", step)))
  profile = Profile(tmp_path, first_step=2, num_steps=2)
  for step in range(1, 6):
    profile.before_step()
    assert profile.ends_with_this_step == (step == 3)
    if profile.ends_with_this_step:
      profile.end(jnp.ones(()))
  profile.close()
  assert calls == [("start", 2), ("stop", 3)]


def test_a_run_that_ends_inside_a_profile_ends_it(monkeypatch, tmp_path):
  calls = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
  settings = toy_system.settings(tmp_path, eval_dataset=None, total_steps=3)
  loop.train(**settings, profile=True)
  assert calls == ["start", "stop"]


def test_a_profile_of_nothing_is_refused(tmp_path):
  with pytest.raises(InputError, match="num_steps=0 must be at least 1"):
    Profile(tmp_path, num_steps=0)
