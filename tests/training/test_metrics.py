import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.training.metrics import MetricsWriter, Totals


def sums(loss, weight):
  return {"loss": (jnp.float32(loss), jnp.float32(weight)), "gradient_norm": (jnp.float32(1), jnp.float32(1))}


def test_totals_weigh_by_tokens():
  totals = Totals()
  totals.add(sums(6.0, 2), 1)
  totals.add(sums(2.0, 6), 2)
  assert totals.means() == {"loss": 1.0, "gradient_norm": 1.0}
  assert totals.tokens_per_step() == 4.0


def test_totals_leave_out_what_never_occurred():
  totals = Totals()
  totals.add(sums(1.0, 1) | {"nll_semantic": (jnp.float32(0), jnp.float32(0))}, 1)
  assert "nll_semantic" not in totals.means()


def test_totals_survive_json_to_the_last_bit():
  totals, values = Totals(), np.random.default_rng(0).random(9).astype(np.float32)
  for value in values[:5]:
    totals.add(sums(value, 3), 1)
  restored = Totals(json.loads(json.dumps(totals.sums)))
  for value in values[5:]:
    totals.add(sums(value, 3), 1)
    restored.add(sums(value, 3), 1)
  assert restored.means() == totals.means()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_names_the_step(bad):
  with pytest.raises(InputError, match=r"loss is (nan|inf) at step 7"):
    Totals().add(sums(bad, 1), 7)


def write(model_dir, last_step, steps):
  writer = MetricsWriter(model_dir, "train", last_step)
  for step in steps:
    writer.write_scalars(step, {"loss": step / 3})
  writer.close()


def steps_in(model_dir):
  return [json.loads(line)["step"] for line in (model_dir / "metrics/train.jsonl").read_text().splitlines()]


def test_lines_have_full_precision(tmp_path):
  write(tmp_path, 0, [1])
  assert json.loads((tmp_path / "metrics/train.jsonl").read_text()) == {"step": 1, "loss": 1 / 3}


@pytest.mark.parametrize("last_step,kept", [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_continuing_drops_what_will_be_done_again(tmp_path, last_step, kept):
  write(tmp_path, 0, [1, 2, 3])
  write(tmp_path, last_step, [4])
  assert steps_in(tmp_path) == [*kept, 4]


def test_a_line_that_cannot_be_written_is_tried_again_and_then_an_error(tmp_path, monkeypatch, capsys):
  writer = MetricsWriter(tmp_path, "train", 0, retry_seconds=(0.01, 0.01))
  writer.write_scalars(1, {})
  path = tmp_path / "metrics/train.jsonl"

  def mended(seconds):
    (tmp_path / "away").rename(path)
    path.write_text(path.read_text() + '{"step": 2, "lo')  # as far as a write got

  path.rename(tmp_path / "away")
  with monkeypatch.context() as patch:
    patch.setattr("time.sleep", mended)
    writer.write_scalars(2, {})
  assert steps_in(tmp_path) == [1, 2]
  path.unlink()
  with pytest.raises(InputError, match=rf"cannot write {path}: No such file"):
    writer.write_scalars(3, {})
  assert capsys.readouterr().err.count("Trying again in 0.01 s") == 3


def test_continuing_drops_half_a_line(tmp_path):
  write(tmp_path, 0, [1, 2])
  path = tmp_path / "metrics/train.jsonl"
  path.write_text(path.read_text() + '{"step": 3, "lo')
  write(tmp_path, 5, [])
  assert steps_in(tmp_path) == [1, 2]
