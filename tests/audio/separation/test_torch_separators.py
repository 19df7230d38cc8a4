"""Demucs and Mel-Band RoFormer with small random networks, saved as the published ones are."""

import fractions
import hashlib
import json
import warnings

import numpy as np
import pytest

from singsong_jax.audio.separation.base import Clip, get_separator
from singsong_jax.errors import InputError

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # what is so small gains nothing from more
pytestmark = pytest.mark.slow
RATE_HZ = 44_100
STEMS = ["drums", "bass", "other", "vocals"]
HTDEMUCS = {
  "sources": STEMS,
  "channels": 8,
  "nfft": 1024,
  "bottom_channels": 16,
  "t_layers": 1,
  "t_heads": 2,
}


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


def save_demucs(folder, signature, seed, klass="demucs.htdemucs.HTDemucs", state=None, **changes):
  """A file as the package's own exporter writes it."""
  from demucs.htdemucs import HTDemucs
  from safetensors.torch import save_file

  torch.manual_seed(seed)
  model = HTDemucs(**{**HTDEMUCS, **changes}, segment=fractions.Fraction(1, 2))
  kwargs = {**HTDEMUCS, **changes, "segment": {"_type": "fraction", "numerator": 1, "denominator": 2}}
  metadata = {"klass": klass, "args": "[]", "kwargs": json.dumps(kwargs)}
  save_file(state or model.state_dict(), folder / f"{signature}.safetensors", metadata=metadata)
  return model


@pytest.fixture(scope="module")
def demucs_folder(tmp_path_factory):
  pytest.importorskip("demucs")
  folder = tmp_path_factory.mktemp("demucs")
  for seed, signature in enumerate(("abc", "def")):
    save_demucs(folder, signature, seed)
  (folder / "tiny.yaml").write_text("models: ['abc']\n")
  (folder / "other.yaml").write_text("models: ['def']\n")
  (folder / "bag.yaml").write_text("models: ['abc', 'def']\nweights: [[1, 1, 1, 0], [0, 0, 0, 1]]\n")
  return folder


@pytest.fixture
def demucs_copy(tmp_path):
  """A folder of one model to be spoiled."""
  pytest.importorskip("demucs")
  save_demucs(tmp_path, "abc", 0)
  (tmp_path / "tiny.yaml").write_text("models: ['abc']\n")
  return tmp_path


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
      "attn_dropout": 0,
      "ff_dropout": 0,
      "flash_attn": True,
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
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # what the package warns of is not ours
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
  mixes = np.stack([clip.mix for clip in three])
  np.testing.assert_allclose(vocals + (mixes - vocals), mixes, atol=1e-6)
  assert np.abs(vocals).max() > 1e-4  # a random network says something
  with pytest.raises(InputError, match=r"song 1 has 16000 Hz; .* hears 44100"):
    separator.separate(clips(1, rate_hz=16_000))
  assert len(separator.describe()["sha256"]) == 64
  json.dumps(separator.describe())
  return separator


def test_demucs(demucs_folder):
  separator = check_behaviour(f"demucs:{demucs_folder},model=tiny")
  assert separator.describe() == {
    "name": "demucs",
    "sha256": separator.describe()["sha256"],
    "model": "tiny",
    "overlap": 0.25,
  }


def test_demucs_is_the_packages(demucs_folder):
  """The same vocals as its own interface finds, whatever the level and offset."""
  from demucs.api import Separator

  theirs = Separator("demucs_unittest", device="cpu", shifts=0)
  separator = get_separator(f"demucs:{demucs_folder},model=bag")
  theirs._model = separator._model
  for gain, offset in ((1, 0), (0.01, 0.02), (3, -0.5)):
    mix = (gain * clips(4)[0].mix + offset).astype(np.float32)
    _, stems = theirs.separate_tensor(torch.from_numpy(np.stack([mix, mix])))
    vocals = separator.separate([Clip(mix=mix, sample_rate_hz=RATE_HZ, song="a", offset_seconds=0.0)])[0]
    np.testing.assert_allclose(vocals, stems["vocals"].mean(dim=0), atol=1e-6 * gain)


def test_demucs_describes_the_files_it_uses(demucs_folder, demucs_copy):
  def describe(folder, model):
    return get_separator(f"demucs:{folder},model={model}").describe()

  tiny = describe(demucs_folder, "tiny")
  # Copied: safetensors puts its metadata in another order each time.
  (demucs_copy / "abc.safetensors").write_bytes((demucs_folder / "abc.safetensors").read_bytes())
  assert tiny == describe(demucs_copy, "tiny")  # whose folder has no other model
  shas = {describe(demucs_folder, name)["sha256"] for name in ("tiny", "other", "bag")}
  assert len(shas) == 3
  save_demucs(demucs_copy, "abc", 7)
  assert describe(demucs_copy, "tiny") != tiny


def test_demucs_older_files(demucs_folder, demucs_copy):
  """A pickle of 16-bit weights, whose name has a checksum."""
  from demucs.states import get_state, save_with_checksum

  model = save_demucs(demucs_copy, "abc", 0)
  (demucs_copy / "abc.safetensors").unlink()
  kwargs = {**HTDEMUCS, "segment": fractions.Fraction(1, 2)}
  package = {"klass": type(model), "args": (), "kwargs": kwargs, "state": get_state(model, None, half=True)}
  save_with_checksum(package, demucs_copy / "abc.th")
  old, new = (get_separator(f"demucs:{folder},model=tiny") for folder in (demucs_copy, demucs_folder))
  np.testing.assert_allclose(old.separate(clips(1)), new.separate(clips(1)), atol=1e-3)
  (path,) = demucs_copy.glob("abc-*.th")
  path.rename(demucs_copy / "abc-00000000.th")
  with pytest.raises(InputError, match=r"abc-00000000\.th does not hold the Demucs .*Invalid checksum"):
    get_separator(f"demucs:{demucs_copy},model=tiny")


def test_demucs_of_one_channel(demucs_copy):
  save_demucs(demucs_copy, "abc", 0, audio_channels=1)
  assert get_separator(f"demucs:{demucs_copy},model=tiny").separate(clips(1)).shape == (1, 60_000)


def test_demucs_keeps_levels(demucs_folder, monkeypatch):
  """A model that calls everything vocals gives the mix back, loud or quiet."""
  separator = get_separator(f"demucs:{demucs_folder},model=tiny,overlap=0.5")
  inner = separator._model.models[0]
  monkeypatch.setattr(type(inner), "forward", lambda self, mix: torch.stack([mix] * 4, dim=1))
  for gain in (1.0, 0.01, 3.0):
    (clip,) = clips(5)
    mix = (gain * (clip.mix + 0.1)).astype(np.float32)
    vocals = separator.separate([Clip(mix=mix, sample_rate_hz=RATE_HZ, song="a", offset_seconds=0.0)])[0]
    np.testing.assert_allclose(vocals, mix, atol=1e-6 * max(gain, 1))


def test_demucs_of_silence(demucs_folder):
  silence = Clip(mix=np.zeros(9_000, np.float32), sample_rate_hz=RATE_HZ, song="a", offset_seconds=0.0)
  vocals = get_separator(f"demucs:{demucs_folder},model=tiny").separate([silence])
  assert np.abs(vocals).max() < 1e-6


def test_demucs_folders_that_are_none(demucs_folder, demucs_copy):
  spec = f"demucs:{demucs_copy},model=tiny"
  with pytest.raises(
    InputError, match=r"there is no htdemucs\.yaml; models in this folder: bag, other, tiny"
  ):
    get_separator(f"demucs:{demucs_folder}")
  for overlap in ("1", "much"):
    with pytest.raises(InputError, match=f"overlap is {overlap}; it must be"):
      get_separator(f"{spec},overlap={overlap}")
  save_demucs(demucs_copy, "abc", 0, state={"weight": torch.zeros(1)})
  with pytest.raises(InputError, match=r"abc\.safetensors does not hold the Demucs .*Missing key"):
    get_separator(spec)
  (demucs_copy / "abc.safetensors").write_bytes(b"no weights")
  with pytest.raises(InputError, match=r"abc\.safetensors does not hold the Demucs of its configuration"):
    get_separator(spec)
  save_demucs(demucs_copy, "abc", 0, sources=["speech", "noise"])
  with pytest.raises(InputError, match="tiny finds speech, noise, no vocals"):
    get_separator(spec)
  (demucs_copy / "abc.safetensors").unlink()
  with pytest.raises(InputError, match=r"lacks abc\.safetensors, which tiny\.yaml names"):
    get_separator(spec)
  (demucs_copy / "tiny.yaml").write_text("a text\n")
  with pytest.raises(InputError, match=r"tiny\.yaml does not list the models"):
    get_separator(spec)


def test_demucs_files_name_nothing_but_models(demucs_copy):
  """The package would call what the metadata names, with arguments from there."""
  from safetensors.torch import save_file

  marker = demucs_copy / "called"
  metadata = {"klass": "os.mkdir", "args": json.dumps([str(marker)]), "kwargs": "{}"}
  save_file({"weight": torch.zeros(1)}, demucs_copy / "abc.safetensors", metadata=metadata)
  with pytest.raises(InputError, match=r"abc\.safetensors .* its klass is os\.mkdir"):
    get_separator(f"demucs:{demucs_copy},model=tiny")
  assert not marker.exists()


def test_demucs_quantised(demucs_copy, monkeypatch):
  """The package ends the process where diffq is missing."""
  import demucs.hf

  def quit(path):
    raise SystemExit(1)

  monkeypatch.setattr(demucs.hf, "load_safetensors_model", quit)
  with pytest.raises(InputError, match=r"abc\.safetensors is quantised: it needs the package diffq"):
    get_separator(f"demucs:{demucs_copy},model=tiny")


def test_roformer(roformer_folder):
  folder = roformer_folder()
  separator = check_behaviour(f"mel_band_roformer:{folder}")
  digest = hashlib.sha256()
  for name in ("config_vocals.yaml", "MelBandRoformer.ckpt"):
    digest.update(f"{name}\n".encode())
    digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
  assert separator.describe()["sha256"] == digest.hexdigest()


@pytest.mark.parametrize("flash", [True, False])
def test_roformer_is_the_packages_network(roformer_folder, flash):
  """One chunk, with the package's own forward pass and its own attention without a kernel."""
  import mel_band_roformer

  folder = roformer_folder(model={"flash_attn": flash})
  (clip,) = clips(6, samples=20_000)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = mel_band_roformer.MelBandRoformer(
      **{**roformer_config()["model"], "flash_attn": False, "match_input_audio_length": True}
    )
  theirs.load_state_dict(torch.load(folder / "MelBandRoformer.ckpt", weights_only=True))
  with torch.inference_mode():
    expected = theirs.eval()(torch.from_numpy(np.stack([clip.mix, clip.mix]))[None])[0].mean(dim=0)
  separator = get_separator(f"mel_band_roformer:{folder},overlaps=1")
  np.testing.assert_allclose(separator.separate([clip])[0], expected, atol=1e-6)
  modules = list(separator._network.modules())
  # No matrix of all pairs, and none of the package's own kernels, which print on a GPU.
  assert torch.nn.functional.scaled_dot_product_attention in [module.forward for module in modules]
  assert not any(getattr(module, "flash", False) for module in modules)


def test_roformer_of_one_channel(roformer_folder):
  folder = roformer_folder(model={"stereo": False})
  assert get_separator(f"mel_band_roformer:{folder}").separate(clips(1)).shape == (1, 60_000)


def test_roformer_other_files(roformer_folder):
  """Weights as trainers wrap them, and as safetensors."""
  from safetensors.torch import save_file

  folder = roformer_folder()
  vocals = get_separator(f"mel_band_roformer:{folder}").separate(clips(1))
  path = folder / "MelBandRoformer.ckpt"
  state = torch.load(path, weights_only=True)
  torch.save({"state_dict": state, "epoch": 3}, path)
  np.testing.assert_array_equal(get_separator(f"mel_band_roformer:{folder}").separate(clips(1)), vocals)
  path.unlink()
  save_file({name: value.clone() for name, value in state.items()}, path.with_suffix(".safetensors"))
  np.testing.assert_array_equal(get_separator(f"mel_band_roformer:{folder}").separate(clips(1)), vocals)


@pytest.mark.parametrize(("lost", "added"), [("mask_estimators", {}), (None, {"more": torch.zeros(1)})])
def test_roformer_weights_are_loaded_whole(roformer_folder, lost, added):
  folder = roformer_folder()
  path = folder / "MelBandRoformer.ckpt"
  state = torch.load(path, weights_only=True)
  kept = {name: value for name, value in state.items() if not (lost and name.startswith(lost))}
  torch.save({**kept, **added}, path)
  with pytest.raises(InputError, match=r"MelBandRoformer\.ckpt does not hold .*(Missing|Unexpected) key"):
    get_separator(f"mel_band_roformer:{folder}")


def test_roformer_pickles_run_nothing(roformer_folder, capsys):
  class Evil:
    def __reduce__(self):
      return print, ("it ran",)

  folder = roformer_folder()
  torch.save({"state_dict": {"weight": Evil()}}, folder / "MelBandRoformer.ckpt")
  with pytest.raises(InputError, match=r"MelBandRoformer\.ckpt does not hold"):
    get_separator(f"mel_band_roformer:{folder}")
  assert not capsys.readouterr().out


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"inference": {"chunk_size": 100}}, r"has chunk_size 100; expected an integer of at least 512"),
    ({"inference": {"chunk_size": 20_000.0}}, r"has chunk_size 20000\.0; expected an integer"),
    ({"training": {"target_instrument": None}}, r"names vocals, other for a network of num_stems = 1"),
    ({"training": {"target_instrument": "other"}}, "is of a network that finds other, no vocals"),
  ],
)
def test_roformer_configurations_that_are_none(roformer_folder, changes, message):
  with pytest.raises(InputError, match=rf"config_vocals\.yaml {message}"):
    get_separator(f"mel_band_roformer:{roformer_folder(**changes)}")


@pytest.mark.parametrize("text", ["- a list", "model: {}", "a: [", "training: 3\nmodel: {}\ninference: {}"])
def test_roformer_files_that_are_no_configuration(roformer_folder, text):
  folder = roformer_folder()
  (folder / "config_vocals.yaml").write_text(text)
  with pytest.raises(InputError, match=r"config_vocals\.yaml (is no configuration of a|has chunk_size None)"):
    get_separator(f"mel_band_roformer:{folder}")


@pytest.mark.parametrize("setting", ["overlaps=0", "overlaps=2.5", "batch_chunks=many"])
def test_roformer_settings_out_of_range(roformer_folder, setting):
  with pytest.raises(InputError, match=r"is (0|2\.5|many); it must be an integer from 1"):
    get_separator(f"mel_band_roformer:{roformer_folder()},{setting}")


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
