"""Whole runs of the toy system in one process."""

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_system

from singsong_jax.errors import InputError
from singsong_jax.training import loop, optimizers
from singsong_jax.training.checkpoints import load_checkpoint
from singsong_jax.training.monitoring import MEASURED
from singsong_jax.training.run import ENDED_EARLY


def run(model_dir, **changes):
  loop.train(**toy_system.settings(model_dir, **changes))


def history(model_dir, split="train"):
  """step → what must be the same in every run; what is measured is not."""
  lines = (model_dir / f"metrics/{split}.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


def test_a_run_learns_and_leaves_everything_behind(tmp_path):
  run(tmp_path)
  losses = [row["loss"] for row in history(tmp_path)]
  assert len(losses) == 12 and losses[-1] < 0.2 * losses[0]
  assert [row["step"] for row in history(tmp_path, "eval")] == [4, 8, 12]
  assert sorted(os.listdir(tmp_path)) == [".lock", "checkpoints", "config.gin", "metrics", "model.json"]
  assert sorted(os.listdir(tmp_path / "checkpoints"), key=int) == ["4", "8", "12"]
  assert json.loads((tmp_path / "model.json").read_text())["system"] == "toy"


def test_stats_are_means_over_the_period_weighted_by_tokens(tmp_path):
  run(tmp_path / "each", total_steps=6)
  run(tmp_path / "mean", total_steps=6, stats_period=3)
  each, mean = history(tmp_path / "each"), history(tmp_path / "mean")
  assert [row["step"] for row in mean] == [1, 3, 6]
  assert mean[0] == each[0]
  weights = [toy_system.toy_batch(i)["weights"].sum() for i in range(6)]
  expected = np.average([row["loss"] for row in each[3:]], weights=weights[3:])
  np.testing.assert_allclose(mean[2]["loss"], expected, rtol=1e-12)


@pytest.mark.parametrize("stopped_at", [4, 5, 7])
def test_continuing_is_exact_also_inside_a_stats_period(tmp_path, stopped_at):
  """A run that ends at `stopped_at` saves there, in the middle of the 3-step means."""
  run(tmp_path / "whole", stats_period=3)
  run(tmp_path / "parts", stats_period=3, total_steps=stopped_at)
  run(tmp_path / "parts", stats_period=3)
  assert history(tmp_path / "parts") == history(tmp_path / "whole")
  whole, parts = (load(tmp_path / name)[1] for name in ("whole", "parts"))
  jax.tree.map(np.testing.assert_array_equal, whole, parts)


def load(model_dir, step=None):
  return load_checkpoint(model_dir, step, toy_system.toy_from_description)


def test_continuing_keeps_the_state_of_each_checkpoint(tmp_path):
  """Asynchronous saving must not see the donated arrays of later steps."""
  for total in (4, 8, 12):
    run(tmp_path / str(total), total_steps=total)
  for step in (4, 8):
    later, alone = load(tmp_path / "12", step)[1], load(tmp_path / str(step))[1]
    jax.tree.map(np.testing.assert_array_equal, later, alone)


def test_a_finished_run_says_so(tmp_path, capsys):
  run(tmp_path)
  before = (tmp_path / "metrics/train.jsonl").read_text()
  run(tmp_path, train_dataset=lambda *part: pytest.fail("data was opened"))
  assert "at step 12 already" in capsys.readouterr().err
  assert (tmp_path / "metrics/train.jsonl").read_text() == before


def test_another_model_is_refused_and_the_difference_named(tmp_path):
  run(tmp_path, total_steps=1)
  with pytest.raises(InputError, match="width was 8, now 6"):
    run(tmp_path, system=toy_system.ToySystem(width=6))


def test_another_seed_is_refused(tmp_path):
  run(tmp_path, total_steps=1)
  with pytest.raises(InputError, match="random_seed was 0, now 1"):
    run(tmp_path, random_seed=1)


def broken_at(*indices):
  return lambda *part: toy_system.ToyIterator(*part, broken_at=indices)


def test_a_broken_loss_stops_at_its_step_and_is_not_saved(tmp_path):
  with pytest.raises(
    InputError, match=r"is nan at step 7 .*examples: 6/0, .*, 6/7. Stopped; the last checkpoint"
  ):
    run(tmp_path, train_dataset=broken_at(6))
  assert load(tmp_path)[2] == 4
  assert [row["step"] for row in history(tmp_path)] == [1, 2, 3, 4, 5, 6]
  (folder,) = (tmp_path / "nonfinite").iterdir()
  assert folder.name == "step_7"
  with np.load(folder / "process_00000.npz") as dump:
    np.testing.assert_array_equal(dump["inputs"], toy_system.toy_batch(6)["inputs"])
  report = json.loads((folder / "process_00000.json").read_text())
  assert report["ids"][3] == "6/3" and report["sums_and_weights"]["gradient_norm"] == ["nan", 1.0]


def test_broken_steps_can_be_skipped_and_are_counted(tmp_path, capsys):
  skipping = {"on_nonfinite": "skip", "stats_period": 3, "train_dataset": broken_at(4, 6, 7, 8)}
  run(tmp_path / "whole", **skipping)
  shares = {row["step"]: row["skipped_share"] for row in history(tmp_path / "whole")}
  assert shares == {1: 0, 3: 0, 6: pytest.approx(1 / 3), 9: 1, 12: 0}
  assert [("loss" in row) for row in history(tmp_path / "whole")] == [True, True, True, False, True]
  assert capsys.readouterr().err.count("The step is skipped") == 4
  run(tmp_path / "parts", **skipping, total_steps=7)
  run(tmp_path / "parts", **skipping)
  assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_too_many_skips_in_a_row_stop(tmp_path):
  with pytest.raises(InputError, match=r"at step 9 .*Stopped after 3 such steps in a row"):
    run(tmp_path, on_nonfinite="skip", max_skips=3, train_dataset=broken_at(2, 6, 7, 8))


def test_skips_in_a_row_are_counted_across_a_restart(tmp_path):
  skipping = {"on_nonfinite": "skip", "max_skips": 3, "train_dataset": broken_at(6, 7, 8)}
  run(tmp_path, **skipping, total_steps=8)
  with pytest.raises(InputError, match=r"at step 9 .*Stopped after 3 such steps in a row"):
    run(tmp_path, **skipping)


def test_an_update_that_is_not_finite_stops_at_its_step(tmp_path):
  optimizer = optimizers.adafactor(lambda step: jnp.where(step == 3, jnp.inf, 0.01))
  with pytest.raises(InputError, match=r"update_norm is (inf|nan) at step 4 .*Stopped"):
    run(tmp_path, optimizer=optimizer)
  assert not os.listdir(tmp_path / "checkpoints")


def test_a_dump_that_cannot_be_written_hides_nothing(tmp_path):
  (tmp_path / "nonfinite").write_text("a file where a folder is needed")
  with pytest.raises(InputError, match=r"is nan at step 7 \(no dump: .*nonfinite.*\); its examples: 6/0"):
    run(tmp_path, train_dataset=broken_at(6))


def test_skipping_without_anything_to_skip_changes_no_result(tmp_path):
  run(tmp_path / "stop")
  run(tmp_path / "skip", on_nonfinite="skip")
  rows = [{k: v for k, v in row.items() if k != "skipped_share"} for row in history(tmp_path / "skip")]
  assert rows == history(tmp_path / "stop")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"on_nonfinite": "ignore"}, "on_nonfinite='ignore': choose one of stop, skip"),
    ({"max_skips": 0}, "max_skips=0"),
  ],
)
def test_what_to_do_about_broken_steps_is_checked(tmp_path, change, message):
  with pytest.raises(InputError, match=message):
    run(tmp_path, **change)


def test_another_schedule_is_refused_with_its_rates(tmp_path):
  run(tmp_path, total_steps=1)
  optimizer = optimizers.adafactor(optimizers.rsqrt_decay(warmup_steps=1_000))
  with pytest.raises(InputError, match=r"learning_rate.step_0 was 0.1, now 0.03162; .*step_100 was 0.1, now"):
    run(tmp_path, optimizer=optimizer)


def test_other_settings_of_the_optimizer_are_refused_with_both_values(tmp_path):
  run(tmp_path, total_steps=1)
  changed = optimizers.adafactor(optimizers.rsqrt_decay(warmup_steps=100), decay_rate=0.9)
  with pytest.raises(InputError, match=r"\(optimizer.decay_rate was 0.8, now 0.9\)"):
    run(tmp_path, optimizer=changed)


def test_two_runs_cannot_share_a_model_dir(tmp_path):
  class Second(toy_system.ToyIterator):
    def __next__(self):
      if self.index == 2:
        with pytest.raises(InputError, match=rf"{tmp_path} is in use by process {os.getpid()} on "):
          run(tmp_path)
      return super().__next__()

  run(tmp_path, train_dataset=Second)
  run(tmp_path, total_steps=14)  # it is free again


def test_an_unreadable_checkpoint_is_set_aside_loudly(tmp_path, capsys):
  run(tmp_path / "whole")
  run(tmp_path / "broken", total_steps=8)
  for path in (tmp_path / "broken/checkpoints/8/params").rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  run(tmp_path / "broken")
  message = capsys.readouterr().err
  assert "WARNING: checkpoint 8 cannot be read" in message and "continuing from step 4" in message
  assert history(tmp_path / "broken") == history(tmp_path / "whole")
  assert os.listdir(tmp_path / "broken/unreadable_checkpoints") == ["8"]


def test_no_readable_checkpoint_is_an_error_and_nothing_is_moved(tmp_path):
  run(tmp_path, total_steps=4)
  (tmp_path / "checkpoints/4/meta/metadata").write_text("{")
  with pytest.raises(InputError, match=r"no checkpoint in .* can be read; step 4"):
    run(tmp_path)
  assert os.listdir(tmp_path / "checkpoints") == ["4"]


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch, capsys):
  usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  with pytest.raises(InputError, match=r"cannot write .*: 1,9\d\d bytes are needed and 1,000 are free"):
    run(tmp_path)
  assert os.listdir(tmp_path / "checkpoints") == []
  assert capsys.readouterr().err.count("1,000 are free. Trying again in 0.01 s") == 2


def test_what_fails_to_close_keeps_no_other_from_closing(tmp_path, monkeypatch):
  closed = []

  def failing(self):
    raise OSError("full")

  monkeypatch.setattr("singsong_jax.training.progress.Progress.close", failing)
  monkeypatch.setattr("singsong_jax.training.run.MetricsWriter.close", lambda self: closed.append(self))
  with pytest.raises(OSError, match="full"):
    run(tmp_path, total_steps=1)
  assert len(closed) == 2


def test_data_that_ends_is_an_error(tmp_path):
  class Ending(toy_system.ToyIterator):
    def __next__(self):
      if self.index == 3:
        raise StopIteration
      return super().__next__()

  with pytest.raises(InputError, match="ended after 3 steps"):
    run(tmp_path, train_dataset=Ending)


@pytest.mark.parametrize("name", ["total_steps", "eval_period", "stats_period", "checkpoint_period"])
def test_periods_are_positive(tmp_path, name):
  with pytest.raises(InputError, match=f"{name}=0"):
    run(tmp_path, **{name: 0})


def test_a_dry_run_touches_nothing(tmp_path, capsys):
  run(tmp_path / "model", dry_run=True, train_dataset=lambda *part: pytest.fail("data was opened"))
  assert "240 parameters" in capsys.readouterr().err
  assert not (tmp_path / "model").exists()


def test_callbacks_see_the_start_and_every_evaluation(tmp_path):
  calls = []

  class Callback:
    def on_start(self, model_dir, system):
      calls.append(("start", model_dir, system.name))

    def on_eval(self, step, params, eval_batch, writer):
      writer.write_audios(step, {"sound": np.zeros((1, 8, 1), np.float32)}, sample_rate=8)
      calls.append((step, params["head"].shape, len(eval_batch["inputs"])))

  run(tmp_path, callbacks=[Callback(), object()])
  assert calls == [("start", str(tmp_path), "toy")] + [(step, (8, 20), 8) for step in (4, 8, 12)]


def test_a_callback_may_end_the_run_and_it_stays_ended_until_it_is_let_go_on(tmp_path, capsys):
  class Ending:
    def __init__(self, ended=None):
      self.ended = ended

    def on_start(self, model_dir, system):
      return self.ended

    def on_eval(self, step, params, eval_batch, writer):
      return "it is good enough" if step == 8 else None

  run(tmp_path, callbacks=[Ending()])
  assert "done: 8 steps; it is good enough" in capsys.readouterr().err
  assert load(tmp_path)[2] == 8
  assert [row["step"] for row in history(tmp_path, "eval")] == [4, 8]
  assert (tmp_path / ENDED_EARLY).read_text() == "it is good enough\n"
  run(tmp_path, callbacks=[Ending("it was good enough")])
  assert "done: 8 steps; it was good enough" in capsys.readouterr().err
  run(tmp_path, callbacks=[])
  assert load(tmp_path)[2] == 12
  assert not (tmp_path / ENDED_EARLY).exists()


def test_evaluation_counts_every_row_once(tmp_path):
  run(tmp_path, eval_dataset=lambda: toy_system.toy_eval_batches((8, 3)), total_steps=1)
  (row,) = history(tmp_path, "eval")
  system, params, _ = load(tmp_path)
  sums = [system.loss(params, batch, None)[1]["loss"] for batch in toy_system.toy_eval_batches((8, 3))]
  total, weight = np.sum(sums, axis=0)
  np.testing.assert_allclose(row["loss"], total / weight, rtol=1e-5)


@pytest.mark.parametrize("stats_period", [1, 10])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_from_there(tmp_path, capsys, number, stats_period):
  class Interrupting(toy_system.ToyIterator):
    def __next__(self):
      if self.index == 5:
        os.kill(os.getpid(), number)
      return super().__next__()

  before = signal.getsignal(number)
  run(tmp_path / "parts", train_dataset=Interrupting, stats_period=stats_period)
  assert f"{signal.Signals(number).name}: saved at step 6" in capsys.readouterr().err
  assert signal.getsignal(number) == before
  run(tmp_path / "parts", stats_period=stats_period)
  run(tmp_path / "whole", stats_period=stats_period)
  assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_a_signal_while_the_data_are_opened_stops_before_the_first_step(tmp_path, capsys):
  def interrupted(*part):
    os.kill(os.getpid(), signal.SIGTERM)
    return toy_system.ToyIterator(*part)

  run(tmp_path, train_dataset=interrupted)
  assert "SIGTERM: saved at step 0" in capsys.readouterr().err
  run(tmp_path, total_steps=2)
  assert [row["step"] for row in history(tmp_path)] == [1, 2]
