"""FADi while training: recorded, kept where it is best, and the end when it no longer falls."""

import shutil

import jax
import pytest

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.evaluation.early_stopping import BEST_FOLDER, FadEarlyStopping
from singsong_jax.inference.models import load_models
from singsong_jax.inference.tokenizers import FOLDER, ship_tokenizers
from singsong_jax.training.run import call


class Recorder:
  """What a run's metrics writer is to a callback."""

  def __init__(self):
    self.scalars = {}

  def write_scalars(self, step, scalars):
    self.scalars[step] = scalars


@pytest.fixture
def run_dir(tmp_path, model_dir):
  ship_tokenizers(model_dir / FOLDER, tmp_path)
  return tmp_path


def begun(run_dir, songs_dir, system, **settings):
  stopping = FadEarlyStopping(songs=str(songs_dir), max_songs=2, **settings)
  return stopping, stopping.on_start(str(run_dir), system)


def test_distances_and_likelihoods_are_recorded_and_the_best_parameters_kept(run_dir, songs_dir, model_dir):
  coarse = load_models(model_dir).coarse
  stopping, ended = begun(run_dir, songs_dir, coarse.system, separator="repet", patience=2)
  assert ended is None
  writer = Recorder()
  assert stopping.on_eval(10, coarse.params, None, writer) is None
  found = writer.scalars[10]
  assert set(found) == {"fad_isolated", "fad_separated", "fad_gap", "nll_isolated", "nll_separated"}
  assert found["fad_gap"] == pytest.approx(found["fad_isolated"] - found["fad_separated"])
  assert found["fad_isolated"] > 0
  assert found["nll_isolated"] > 2
  best = load_models(run_dir / BEST_FOLDER)
  assert best.coarse.step == 10
  repeated = Recorder()
  stopping.on_eval(10, coarse.params, None, repeated)
  assert repeated.scalars[10] == found


def test_the_run_ends_when_the_distance_no_longer_falls(run_dir, songs_dir, model_dir):
  coarse = load_models(model_dir).coarse
  stopping, _ = begun(run_dir, songs_dir, coarse.system, patience=2)
  worse = jax.tree.map(lambda x: 0 * x, coarse.params)
  stopping.on_eval(5, coarse.params, None, Recorder())
  record = files.read_json(run_dir / "early_stopping.json")
  files.write_json(
    run_dir / "early_stopping.json", {**record, "fads": {"5": 1e-6}}
  )  # as if it had been as good as real
  shutil.rmtree(run_dir / BEST_FOLDER)
  stopping, ended = begun(run_dir, songs_dir, coarse.system, patience=2)
  assert ended is None
  assert stopping.on_eval(10, worse, None, Recorder()) is None
  reason = stopping.on_eval(20, worse, None, Recorder())
  assert "that of step 5, in 2 evaluations" in reason
  assert (
    begun(run_dir, songs_dir, coarse.system, patience=2)[1] == reason
  )  # the same command does nothing more
  assert begun(run_dir, songs_dir, coarse.system, patience=3)[1] is None
  assert begun(run_dir, songs_dir, coarse.system, patience=0)[1] is None
  assert not (run_dir / BEST_FOLDER).exists()


def test_distances_that_were_measured_otherwise_are_not_compared(run_dir, songs_dir, model_dir):
  system = load_models(model_dir).coarse.system
  record = {"fads": {"5": 1.0}, "measured": begun(run_dir, songs_dir, system)[0]._measured}
  files.write_json(run_dir / "early_stopping.json", record)
  assert begun(run_dir, songs_dir, system, patience=3)[1] is None
  with pytest.raises(
    InputError, match=r"early_stopping\.json .*\(seed, separator of FadEarlyStopping differ\)"
  ):
    begun(run_dir, songs_dir, system, seed=1, separator="repet")


def test_the_first_reason_of_any_callback_counts():
  class Silent:
    def on_eval(self):
      return None

  class Ending:
    def on_eval(self):
      return "enough"

  assert call([Silent(), object()], "on_eval") is None
  assert call([Silent(), Ending()], "on_eval") == "enough"


def test_patience_is_not_negative(songs_dir):
  with pytest.raises(InputError, match="patience=-1"):
    FadEarlyStopping(songs=str(songs_dir), patience=-1)
