"""COCOLA and Beat This!, with weights of the public shapes, against what their authors' code gives."""

import enum
import sys
import types

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation.judgement import Judge, means
from singsong_jax.evaluation.making import Maker
from singsong_jax.evaluation.musical import RATE_HZ, Truth
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.evaluation.verdict import Verdict

EXPECTED = 1.8112650, -17.0860710, -0.6731477
TRUTH = Truth(beats_seconds=(0.5, 1.0, 1.5, 2.0), chords=(None,) * 4, key=None, tempo_bpm=120)


def sounds():
  """Three windows: noise, a plucked tone, and bursts."""
  rng = np.random.default_rng(0)
  time = np.arange(5 * RATE_HZ) / RATE_HZ
  pulses = [
    rng.normal(0, 0.1, len(time)),
    0.3 * np.sin(2 * np.pi * 220 * time) * np.exp(-4 * (time % 0.5)),
    rng.normal(0, 0.05, len(time)) * (time % 0.25 < 0.05),
  ]
  return np.stack(pulses).astype(np.float32)


@pytest.fixture(scope="module")
def cocola_checkpoint(tmp_path_factory):
  """Made as Lightning makes it, enumerations of the authors' package among the settings."""
  torch = pytest.importorskip("torch")
  efficientnet = pytest.importorskip("efficientnet_pytorch")
  network = efficientnet.EfficientNet.from_name("efficientnet-b0", include_top=False, in_channels=2)
  shapes = {f"encoder.encoder.model.0.{name}": x.shape for name, x in network.state_dict().items()}
  shapes |= {"encoder.projection.weight": (512, 1280), "encoder.projection.bias": (512,)}
  shapes |= {"layer_norm.weight": (512,), "layer_norm.bias": (512,), "similarity.w": (512, 512)}
  weights = {name: torch.from_numpy(drawn(name, shape, i)) for i, (name, shape) in enumerate(shapes.items())}
  with pytest.MonkeyPatch.context() as patch:
    module = types.ModuleType("contrastive_model.constants")
    module.EmbeddingMode = enum.Enum("EmbeddingMode", {"RANDOM": "random"}, module=module.__name__)
    patch.setitem(sys.modules, "contrastive_model", types.ModuleType("contrastive_model"))
    patch.setitem(sys.modules, module.__name__, module)
    path = tmp_path_factory.mktemp("cocola") / "cocola.ckpt"
    settings = {"embedding_dim": 512, "embedding_mode": module.EmbeddingMode.RANDOM}
    torch.save({"state_dict": weights, "hyper_parameters": settings}, path)
  return path


def drawn(name, shape, seed):
  """Weights under which embeddings of different sounds differ."""
  rng = np.random.default_rng(seed)
  if name.endswith("num_batches_tracked"):
    return np.array(0)
  if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  size = 0.05 if len(shape) == 1 else np.sqrt(1.5 / np.prod(shape[1:]))
  return rng.normal(0, size, shape).astype(np.float32)


def test_cocola_scores_as_its_authors_code(cocola_checkpoint):
  """`EXPECTED` is what gladia-research-group/cocola@e73a2d0 gives with these weights and sounds."""
  from singsong_jax.evaluation.cocola import Cocola, spectrograms

  metric = Cocola(cocola_checkpoint)
  windows = np.stack([*map(spectrograms, sounds())])
  assert windows.shape == (3, 2, 64, 501) and windows.max() == 0
  found = metric.scores(windows, np.roll(windows, 1, axis=0))
  np.testing.assert_allclose(found, EXPECTED, rtol=1e-3)
  # Two windows of a song are two scores; what is left over counts nothing.
  one, other, _ = sounds()
  both = metric(np.concatenate([one, other, other[:99]]), np.concatenate([other, one, one[:99]]), TRUTH)
  pair = metric.scores(windows[[1, 0]], windows[[0, 1]])
  assert both == pytest.approx(pair.mean(), rel=1e-5)
  assert np.isnan(metric(one[:-1], other, TRUTH))


def test_beat_this_hears_as_its_own_command(tmp_path):
  torch = pytest.importorskip("torch")
  inference = pytest.importorskip("beat_this.inference")
  from beat_this.model.beat_tracker import BeatThis as Network

  from singsong_jax.evaluation.beat_this import BeatThis

  torch.manual_seed(2)
  network = Network(transformer_dim=64, n_layers=1)
  weights = {f"model.{name}": x for name, x in network.state_dict().items()}
  path = tmp_path / "it.ckpt"
  torch.save({"state_dict": weights, "hyper_parameters": {"transformer_dim": 64, "n_layers": 1}}, path)
  beats, _ = inference.Audio2Beats(str(path))(sounds()[1], RATE_HZ)
  metric = BeatThis(path)
  assert len(beats) > 1
  told = Truth(beats_seconds=tuple(beats), chords=(None,) * len(beats), key=None, tempo_bpm=120)
  assert metric(sounds()[1], sounds()[0], told) == 1
  moved = Truth(beats_seconds=tuple(beats + 60), chords=(None,) * len(beats), key=None, tempo_bpm=120)
  assert metric(sounds()[1], sounds()[0], moved) == 0
  with pytest.raises(InputError, match="is no checkpoint of Beat This!"):
    (tmp_path / "other.ckpt").write_bytes(b"other")
    BeatThis(tmp_path / "other.ckpt")


def test_checkpoints_that_are_none(tmp_path):
  pytest.importorskip("efficientnet_pytorch")
  torch = pytest.importorskip("torch")
  from singsong_jax.evaluation.cocola import Cocola

  (tmp_path / "text.ckpt").write_text("text")
  torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.ckpt")
  for name, message in [
    ("text.ckpt", "is no checkpoint that can be read"),
    ("missing.ckpt", "No such file"),
    ("other.ckpt", "is no COCOLA that hears two channels"),
  ]:
    with pytest.raises(InputError, match=message):
      Cocola(tmp_path / name)


def test_a_missing_package_or_file_is_named(tmp_path):
  from singsong_jax.evaluation.beat_this import BeatThis

  with pytest.raises(InputError, match=r"--beat_this=.*nothing\.ckpt is not a file"):
    BeatThis(tmp_path / "nothing.ckpt")


class Loudness:
  """A trained judge that needs no training: how loud the accompaniment is, in vocals."""

  name = "loudness"

  def __call__(self, instrumental, vocals, truth):
    return float(np.std(instrumental) / np.std(vocals))

  def describe(self):
    return {"name": self.name}


def test_a_trained_judge_is_one_more_column(songs_dir, tmp_path):
  songs = find_songs(songs_dir)[:2]
  judge = Judge(songs=songs, maker=Maker(folder=tmp_path), trained=[Loudness()])
  references = judge.references()
  conditions = judge.conditions(
    lambda vocals, rate_hz, seed: 0.5 * vocals, ("right", "shuffled", "half_beat")
  )
  found = means(conditions)
  assert means(references)["vocals themselves"]["loudness"] == pytest.approx(1)
  assert found["right"]["loudness"] == pytest.approx(0.5, abs=1e-3)
  assert found["half_beat"]["loudness"] == pytest.approx(0.5, abs=1e-3)  # of the vocals that were moved
  assert found["shuffled"]["loudness"] != pytest.approx(0.5, abs=1e-3)  # of the song's own, not those heard
  verdict = Verdict.of(references, conditions, {}, 0)
  assert verdict.metrics[-1] == "loudness" and "| loudness |" in verdict.markdown()
