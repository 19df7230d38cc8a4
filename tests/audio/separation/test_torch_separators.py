"""Demucs and Mel-Band RoFormer with small random networks, saved as the published ones are."""

import hashlib
import json

import numpy as np
import pytest

from singsong_jax.audio.separation.base import Clip, get_separator
from singsong_jax.errors import InputError

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # what the packages warn of is not ours
RATE_HZ = 44_100


def clips(*seeds, samples=60_000, rate_hz=RATE_HZ):
  return [
    Clip(
      mix=np.random.default_rng(seed).normal(0, 0.2, samples).astype(np.float32),
      sample_rate_hz=rate_hz,
      song=f"song {seed}",
      offset_seconds=0.0,
    )
    for seed in seeds
  ]


@pytest.fixture(scope="module")
def demucs_folder(tmp_path_factory):
  pytest.importorskip("demucs")
  from demucs.hdemucs import HDemucs
  from safetensors.torch import save_file

  torch.manual_seed(0)
  kwargs = {"sources": ["drums", "bass", "other", "vocals"], "channels": 4, "segment": 1.0}
  model = HDemucs(**kwargs)
  folder = tmp_path_factory.mktemp("demucs")
  metadata = {"klass": "demucs.hdemucs.HDemucs", "args": "[]", "kwargs": json.dumps(kwargs)}
  save_file(model.state_dict(), folder / "abc.safetensors", metadata=metadata)
  (folder / "tiny.yaml").write_text("models: ['abc']\n")
  return folder


def roformer_config(**changes):
  config = {
    "model": {
      "dim": 16,
      "depth": 1,
      "stereo": True,
      "num_stems": 1,
      "time_transformer_depth": 1,
      "freq_transformer_depth": 1,
      "num_bands": 8,
      "dim_head": 8,
      "heads": 2,
      "flash_attn": False,
      "dim_freqs_in": 257,
      "sample_rate": RATE_HZ,
      "stft_n_fft": 512,
      "stft_hop_length": 128,
      "stft_win_length": 512,
      "mask_estimator_depth": 1,
    },
    "training": {"instruments": ["vocals", "other"], "target_instrument": "vocals"},
    "inference": {"chunk_size": 20_000, "num_overlap": 2},
  }
  return {name: {**values, **changes.get(name, {})} for name, values in config.items()}


@pytest.fixture
def roformer_folder(tmp_path):
  package = pytest.importorskip("mel_band_roformer")
  yaml = pytest.importorskip("yaml")

  def make(name="roformer", **changes):
    config = roformer_config(**changes)
    folder = tmp_path / name
    folder.mkdir()
    text = yaml.safe_dump(config) + "odd: !!python/tuple [1, 2]\n"
    (folder / "config_vocals.yaml").write_text(text)
    torch.manual_seed(0)
    network = package.MelBandRoformer(**config["model"])
    torch.save(network.state_dict(), folder / "MelBandRoformer.ckpt")
    return folder

  return make


def check_behaviour(spec):
  """What holds for every separator."""
  separator = get_separator(spec)
  three = clips(1, 2, 3)
  vocals = separator.separate(three)
  assert vocals.shape == (3, 60_000) and vocals.dtype == np.float32 and np.isfinite(vocals).all()
  np.testing.assert_array_equal(vocals, separator.separate(three))
  np.testing.assert_allclose(vocals[1:2], separator.separate(three[1:2]), atol=1e-5)
  assert np.abs(vocals).max() > 1e-4  # a random network says something
  with pytest.raises(InputError, match=r"song 1 has 16000 Hz; .* hears 44100"):
    separator.separate(clips(1, rate_hz=16_000))
  assert len(separator.describe()["sha256"]) == 64
  json.dumps(separator.describe())
  return separator


def test_demucs(demucs_folder):
  check_behaviour(f"demucs:{demucs_folder},model=tiny")


def test_demucs_keeps_levels(demucs_folder, monkeypatch):
  """A model that calls everything vocals gives the mix back, loud or quiet."""
  separator = get_separator(f"demucs:{demucs_folder},model=tiny,overlap=0.5")
  inner = separator._model.models[0]
  monkeypatch.setattr(type(inner), "forward", lambda self, mix: torch.stack([mix] * 4, dim=1))
  for gain in (1.0, 0.01, 3.0):
    (clip,) = clips(5)
    mix = gain * clip.mix
    vocals = separator.separate([Clip(mix=mix, sample_rate_hz=RATE_HZ, song="a", offset_seconds=0.0)])[0]
    np.testing.assert_allclose(vocals, mix - mix.mean(), atol=2e-5 * gain)


def test_demucs_folders_that_are_none(demucs_folder, tmp_path):
  with pytest.raises(InputError, match=r"there is no htdemucs\.yaml; models in this folder: tiny"):
    get_separator(f"demucs:{demucs_folder}")
  (tmp_path / "bad.yaml").write_text("models: ['abc']\n")
  (tmp_path / "abc.safetensors").write_bytes(b"no weights")
  with pytest.raises(InputError, match="does not hold the Demucs of its configuration"):
    get_separator(f"demucs:{tmp_path},model=bad")
  with pytest.raises(InputError, match="overlap is 1; it must be"):
    get_separator(f"demucs:{demucs_folder},model=tiny,overlap=1")


def test_roformer(roformer_folder):
  folder = roformer_folder()
  separator = check_behaviour(f"mel_band_roformer:{folder}")
  digest = hashlib.sha256()
  for name in ("config_vocals.yaml", "MelBandRoformer.ckpt"):
    digest.update(f"{name}\n".encode())
    digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
  assert separator.describe()["sha256"] == digest.hexdigest()


@pytest.mark.parametrize(
  "settings", ["", ",overlaps=1", ",overlaps=3", ",batch_chunks=4", ",overlaps=4,batch_chunks=3"]
)
@pytest.mark.parametrize("samples", [5_000, 20_000, 60_001])
def test_chunks_leave_no_seams(roformer_folder, monkeypatch, settings, samples):
  """A network that gives back what it hears."""
  separator = get_separator(f"mel_band_roformer:{roformer_folder()}{settings}")
  monkeypatch.setattr(type(separator._network), "forward", lambda self, mix: mix)
  (clip,) = clips(7, samples=samples)
  np.testing.assert_allclose(separator.separate([clip])[0], clip.mix, atol=1e-6)


def test_the_vocals_among_several_stems(roformer_folder):
  two = {
    "model": {"num_stems": 2},
    "training": {"instruments": ["other", "Vocals"], "target_instrument": None},
  }
  separator = get_separator(f"mel_band_roformer:{roformer_folder('two', **two)}")
  assert separator._stem == 1 and separator.separate(clips(1)).shape == (1, 60_000)


def test_roformer_folders_that_are_none(roformer_folder, tmp_path):
  other = roformer_folder("other", training={"target_instrument": "other"})
  with pytest.raises(InputError, match="is of a network that finds other, no vocals"):
    get_separator(f"mel_band_roformer:{other}")
  folder = roformer_folder()
  (folder / "config_vocals.yaml").write_text(
    (folder / "config_vocals.yaml").read_text().replace("dim: 16", "dim: 24")
  )
  with pytest.raises(
    InputError, match=r"MelBandRoformer\.ckpt does not hold the Mel-Band RoFormer of its configuration"
  ):
    get_separator(f"mel_band_roformer:{folder}")
  (folder / "second.yaml").touch()
  with pytest.raises(InputError, match=r"has 2 files \*\.yaml; expected a folder with one"):
    get_separator(f"mel_band_roformer:{folder}")
  with pytest.raises(InputError, match=r"has 0 files \*\.yaml"):
    get_separator(f"mel_band_roformer:{tmp_path}/none")
