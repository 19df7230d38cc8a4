"""VGGish: the front end by hand, the network against PyTorch with random weights."""

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation import vggish
from singsong_jax.evaluation.embeddings import get_embedding


@pytest.fixture(scope="module")
def weights():
  """Random ones of the public shapes, as PyTorch would store them."""
  rng = np.random.default_rng(0)
  return {
    name: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
    for name, shape in vggish.shapes().items()
  }


@pytest.fixture(scope="module")
def path(weights, tmp_path_factory):
  from safetensors.numpy import save_file

  path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
  save_file(weights, path)
  return path


def test_sizes_are_the_public_networks():
  assert sum(np.prod(shape) for shape in vggish.shapes().values()) == 72_141_184


@pytest.mark.parametrize(("seconds", "patches"), [(10, 10), (0.98, 1), (0.9, 0), (0.01, 0), (30, 31)])
def test_patches(seconds, patches):
  """(160,000 − 400) / 160 + 1 = 998 frames of 10 s make 10 patches."""
  waveform = np.zeros(round(seconds * 16_000))
  assert vggish.make_patches(waveform).shape == (patches, 96, 64)
  assert len(vggish.make_patches(waveform, 1.0)) == int(seconds)


def test_silence_is_the_logarithm_of_the_offset():
  np.testing.assert_allclose(vggish.log_mel(np.zeros(1_000)), np.log(0.01), rtol=1e-6)


def test_a_sine_by_hand():
  """1 kHz is bin 32 exactly: magnitude A Σw / 2 = 0.5 · 200 / 2 in its bin, half of that on both sides."""
  waveform = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
  filters = vggish.mel_filters()
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
  bins = np.arange(257)[:, None] * np.arange(400) / 512
  spectrum = np.abs((waveform[:400] * window * np.exp(-2j * np.pi * bins)).sum(axis=1))
  assert spectrum[32] == pytest.approx(50, rel=1e-3)
  np.testing.assert_allclose(vggish.log_mel(waveform)[0], np.log(spectrum @ filters + 0.01), atol=1e-4)


def test_mel_bands():
  """64 triangles in HTK's mel from 125 to 7500 Hz, each 1 at its own centre."""
  filters = vggish.mel_filters()
  assert filters.shape == (257, 64) and not filters[0].any()
  hz = np.linspace(0, 8_000, 257)
  assert not filters[hz < 125].any() and not filters[hz > 7_500].any()
  peaks = hz[filters.argmax(axis=0)]
  mel = 2595 * np.log10(1 + np.array([125, 7_500]) / 700)
  centres = 700 * (10 ** (np.linspace(*mel, 66)[1:-1] / 2595) - 1)
  assert np.abs(peaks - centres).max() < 8_000 / 256


@pytest.mark.slow
@pytest.mark.parametrize("relu", [False, True])
def test_the_network_is_torchvggishs(path, weights, relu):
  torch = pytest.importorskip("torch")
  layers, inputs = [], 1
  for name, outputs in vggish.CONVOLUTIONS.items():
    layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.ReLU()]
    layers += [torch.nn.MaxPool2d(2, 2)] if name in vggish.POOLED else []
    inputs = outputs
  features = torch.nn.Sequential(*layers)
  dense = [torch.nn.Linear(12_288, 4_096), torch.nn.ReLU(), torch.nn.Linear(4_096, 4_096), torch.nn.ReLU()]
  dense += [torch.nn.Linear(4_096, 128)] + ([torch.nn.ReLU()] if relu else [])
  reference = torch.nn.ModuleDict({"features": features, "embeddings": torch.nn.Sequential(*dense)})
  reference.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
  waveform = np.random.default_rng(1).normal(0, 0.1, 5 * 16_000)
  patches = torch.from_numpy(vggish.make_patches(waveform))[:, None]
  with torch.no_grad():
    x = reference["features"](patches).permute(0, 2, 3, 1)  # torchvggish: to time, band, channel
    expected = reference["embeddings"](x.reshape(len(x), -1)).numpy()
  found = get_embedding(f"vggish:{path},relu={relu}").embed(waveform)
  assert found.shape == (5, 128)
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_variants_have_names_and_differ(path):
  waveform = 0.05 * np.random.default_rng(2).normal(size=3 * 16_000)
  plain = get_embedding(f"vggish:{path}")
  normed = get_embedding(f"vggish:{path},google_norm=True,block_seconds=1.0,relu=True")
  assert plain.name == "VGGish" and normed.name == "VGGish + relu + google_norm + 1 s blocks"
  assert plain.describe()["sha256"] == normed.describe()["sha256"]
  assert plain.embed(waveform).shape == normed.embed(waveform).shape == (3, 128)
  assert plain.embed(waveform).min() < 0 <= normed.embed(waveform).min()
  assert plain.embed(waveform[:100]).shape == (0, 128)


def test_what_is_no_vggish(path, weights, tmp_path):
  from safetensors.numpy import save_file

  save_file({**weights, "embeddings.4.bias": np.zeros(64, np.float32)}, tmp_path / "other.safetensors")
  (tmp_path / "text.safetensors").write_text("nothing")
  for spec, message in [
    (f"vggish:{tmp_path}/none.pth", r"no such file; docs/evaluation\.md"),
    (f"vggish:{tmp_path}/other.safetensors", r"embeddings\.4\.bias is \(64,\), expected \(128,\)"),
    (f"vggish:{tmp_path}/text.safetensors", "is not a file of weights"),
    (f"vggish:{path},block_seconds=0.5", "a patch takes 0.96 s"),
    (f"vggish:{path},block_seconds=1s", "block_seconds is '1s'; a patch takes"),
    (f"vggish:{path},relu=false", "relu is 'false'; it may be True or False"),
    (f"vggish:{path},google_norm=1", "google_norm is 1; it may be True"),
    ("vggish", "its weights are needed, vggish:SOURCE"),
    ("logmel:x", "it takes no source"),
    ("logmel,relu=True", "it has no settings"),
    ("vgish:x", r"it may be logmel, vggish:SOURCE, .*; did you mean vggish"),
  ]:
    with pytest.raises(InputError, match=message):
      get_embedding(spec)


def test_log_mel_statistics():
  embedding = get_embedding("logmel")
  vectors = embedding.embed(np.random.default_rng(0).normal(0, 0.1, 160_000))
  assert vectors.shape == (10, 128) and np.isfinite(vectors).all()
  assert embedding.embed(np.zeros(100)).shape == (0, 128)
  assert "VGGish" not in embedding.name
