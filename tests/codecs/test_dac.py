"""DAC in JAX against what PyTorch's gave: `python tests/codecs/test_dac.py` (with torch) records that anew.

Weights come from NumPy and their own names; the golden file has names, shapes and PyTorch's results.
"""

import json
import pathlib
import shutil
import sys
import zlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from singsong_jax.codecs import base
from singsong_jax.codecs.dac import DacCodec
from singsong_jax.errors import InputError
from singsong_jax.networks import dac

GOLDEN = pathlib.Path(__file__).parent / "golden_dac.npz"
# The published model's but for widths and entries.
SIZES = {
  "model_type": "dac",
  "sampling_rate": 16_000,
  "downsampling_ratios": [2, 4, 5, 8],
  "encoder_hidden_size": 4,
  "decoder_hidden_size": 32,
  "n_codebooks": 12,
  "codebook_size": 64,
  "codebook_dim": 8,
}
HOP = 320


def weight(name, shape):
  """Normal numbers, scaled so that neither latents vanish nor the waveform clips."""
  values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
  if name.endswith("alpha"):
    return 0.5 + np.abs(values)
  if len(shape) != 3:
    return values if "codebook" in name else 0.1 * values
  gain = 0.1 if name == "decoder.conv2.weight" else 0.3 if "res_unit" in name else 1.0
  return gain * values / np.sqrt(shape[1] * shape[2])


def noise(seed, samples):
  return (0.3 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN) as archive:
    return dict(archive)


@pytest.fixture(scope="module")
def weights(golden):
  shapes = json.loads(golden["shapes"].tobytes())
  return {name: weight(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
  """A folder as the hub has it."""
  folder = tmp_path_factory.mktemp("dac")
  (folder / "config.json").write_text(json.dumps(SIZES))
  safetensors.numpy.save_file(weights, folder / "model.safetensors")
  return folder


@pytest.fixture(scope="module")
def codec(folder):
  return DacCodec.from_pretrained(folder)


@pytest.fixture
def copy(folder, tmp_path):
  return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def test_equals_pytorch(codec, golden):
  waveform = golden["waveform"]
  latents = jax.jit(lambda x: dac.Dac(codec.config).apply(codec.variables, x, method="latents"))(
    waveform[None]
  )
  np.testing.assert_allclose(latents[0], golden["latents"], atol=1e-4)
  np.testing.assert_array_equal(codec.encode(waveform), golden["codes"])
  decoded = golden["decoded"]
  np.testing.assert_allclose(codec.decode(golden["codes"])[: len(decoded)], decoded, atol=1e-4)
  np.testing.assert_allclose(
    codec.decode(golden["codes"][:, :4])[: len(decoded)], golden["coarse"], atol=1e-4
  )


def test_ten_seconds_and_odd_lengths(codec):
  assert (codec.name, codec.sample_rate_hz, codec.frame_rate_hz, codec.num_levels, codec.num_codes) == (
    "dac",
    16_000,
    50,
    12,
    64,
  )
  codes = codec.encode(noise(0, 160_000))
  assert codes.shape == (500, 12) and codes.dtype == np.int32
  decoded = codec.decode(codes)
  assert decoded.shape == (160_000,) and decoded.dtype == np.float32
  assert decoded[:-8].std() > 0 and not decoded[-8:].any()  # a stride of 5 leaves 8 samples out
  for samples, frames in ((161, 1), (0, 0)):
    assert codec.encode(np.zeros(samples)).shape == (frames, 12)
  assert codec.decode(np.zeros((2, 0, 4), int)).shape == (2, 0)


def test_batches_equal_single_clips(codec):
  clips = np.stack([noise(seed, 10 * HOP) for seed in range(2)])[:, None]
  codes = codec.encode(clips)
  assert codes.shape == (2, 1, 10, 12)
  np.testing.assert_array_equal(codes[1, 0], codec.encode(clips[1, 0]))
  np.testing.assert_allclose(codec.decode(codes)[1, 0], codec.decode(codes[1, 0]), atol=1e-6)


def test_a_frame_reaches_as_far_as_the_context_and_no_further(codec):
  codes = np.zeros((41, 12), int)
  changed = codes.copy()
  changed[20] = 33
  touched = np.flatnonzero(codec.decode(codes) != codec.decode(changed)) // HOP - 20
  assert -touched.min() <= codec.context_frames >= touched.max()
  assert max(-touched.min(), touched.max()) == codec.context_frames


def test_weight_normalisation_is_folded_in(weights, codec):
  split = {}
  for name, value in weights.items():
    if name.endswith(".weight") and value.ndim == 3:
      length = np.sqrt(np.square(value).sum(axis=(1, 2), keepdims=True))
      old = name.startswith("encoder")  # PyTorch's old names and its new ones
      g, v = ("_g", "_v") if old else (".original0", ".original1")
      stem = name if old else name.replace(".weight", ".parametrizations.weight")
      split |= {f"{stem}{g}": length, f"{stem}{v}": 3 * value}
    else:
      split[name] = value
  folded = dac.from_torch(split, codec.config)["params"]
  kernel = lambda params: params["decoder"]["block.2.conv_t1"]["kernel"]
  np.testing.assert_allclose(kernel(folded), kernel(codec.variables["params"]), rtol=1e-5)
  np.testing.assert_allclose(
    folded["encoder"]["conv1"]["kernel"], codec.variables["params"]["encoder"]["conv1"]["kernel"], rtol=1e-5
  )


def test_a_file_names_its_weights_and_its_fingerprint_does_not_depend_on_where_they_are(
  codec, copy, tmp_path
):
  path = tmp_path / "codec.npz"
  codec.save(path)
  assert path.stat().st_size < 2000
  loaded = base.load_codec(path)
  assert loaded.fingerprint() == codec.fingerprint()
  np.testing.assert_array_equal(loaded.encode(noise(1, 3200)), codec.encode(noise(1, 3200)))
  assert base.codec_from_spec(f"dac:{copy}").fingerprint() == codec.fingerprint()


def test_weights_that_changed_or_went_away(copy, tmp_path):
  path = tmp_path / "codec.npz"
  DacCodec.from_pretrained(copy).save(path)
  stored = safetensors.numpy.load_file(copy / "model.safetensors")
  stored["encoder.conv1.bias"] += 1
  safetensors.numpy.save_file(stored, copy / "model.safetensors")
  with pytest.raises(
    InputError, match="copy have changed: this 'dac' tokeniser was made with those of SHA-256"
  ):
    base.load_codec(path)
  (copy / "model.safetensors").unlink()
  with pytest.raises(InputError, match=r"copy/model.safetensors is gone: this 'dac' tokeniser needs"):
    base.load_codec(path)
  shutil.rmtree(copy)
  with pytest.raises(InputError, match="copy does not exist; download"):
    base.load_codec(path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model_type": "encodec"}, r"config.json is of a model of type 'encodec'; expected 'dac'"),
    (
      {"codebook_size": 1024},
      r"model.safetensors does not hold the DAC of config.json: .*codebook has shape",
    ),
    (
      {"downsampling_ratios": [2, 4, 8, 8]},
      r"conv_t1.kernel has shape \(2, 16, 40\); config.json makes it \(2, 16, 64\)",
    ),
    ({"n_codebooks": 13}, r"the weight quantizer.quantizers.12.\S+ is missing"),
    ({"n_codebooks": 11}, "5 weights are not DAC's, quantizer.quantizers.11.codebook.weight among them"),
    ({"sampling_rate": "16k"}, "config.json: sampling_rate is '16k'; expected whole numbers"),
    ({"downsampling_ratios": []}, r"downsampling_ratios is \[\]; expected whole numbers"),
  ],
)
def test_files_of_another_model(copy, change, message):
  (copy / "config.json").write_text(json.dumps(SIZES | change))
  with pytest.raises(InputError, match=message):
    DacCodec.from_pretrained(copy)


def test_bad_waveform_codes_and_weights(codec, copy):
  with pytest.raises(InputError, match="NaN or infinite"):
    codec.encode(np.array([0.0, np.nan]))
  with pytest.raises(InputError, match="13 levels; this codec decodes 1 … 12"):
    codec.decode(np.zeros((5, 13), int))
  with pytest.raises(InputError, match="span 0 … 64; this codec's are 0 … 63"):
    codec.decode(np.array([[0, 64]]))
  (copy / "model.safetensors").write_bytes(b"no weights")
  with pytest.raises(InputError, match=r"model.safetensors does not hold the DAC of config.json"):
    DacCodec.from_pretrained(copy)


@pytest.mark.parametrize(("kind", "package"), [("dac_torch", "transformers"), ("snac", "snac")])
def test_a_missing_extra_is_named(folder, tmp_path, monkeypatch, kind, package):
  monkeypatch.setitem(sys.modules, package, None)
  extra = {"dac_torch": "torch", "snac": "snac"}[kind]
  (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
  (tmp_path / "pytorch_model.bin").write_bytes(b"")
  with pytest.raises(InputError, match=rf"{kind} needs the package {package} .*singsong_jax\[{extra}\]'"):
    base.codec_from_spec(f"{kind}:{tmp_path}")


def record():
  """Writes the golden file."""
  import torch
  import transformers

  model = transformers.DacModel(transformers.DacConfig(**SIZES)).eval()
  shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
  model.load_state_dict({name: torch.from_numpy(weight(name, shape)) for name, shape in shapes.items()})
  waveform = noise(7, 10 * HOP)
  with torch.no_grad():
    latents = model.encoder(torch.from_numpy(waveform)[None, None])[0].T
    codes = model.encode(torch.from_numpy(waveform)[None, None]).audio_codes
    decoded, coarse = (model.decode(audio_codes=codes[:, :levels]).audio_values[0] for levels in (12, 4))
  np.savez_compressed(
    GOLDEN,
    shapes=np.frombuffer(json.dumps(shapes).encode(), np.uint8),
    waveform=waveform,
    latents=latents.numpy(),
    codes=codes[0].T.numpy().astype(np.int32),
    decoded=decoded.numpy(),
    coarse=coarse.numpy(),
  )


if __name__ == "__main__":
  record()
