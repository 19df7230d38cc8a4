"""Codecs of public weights in PyTorch, with tiny random models that their own libraries save."""

import json

import numpy as np
import pytest

from singsong_jax.audio.public_weights import import_extra
from singsong_jax.codecs import base
from singsong_jax.errors import InputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)  # what is so small gains nothing from more

SNAC = {
  "sampling_rate": 32_000,
  "encoder_dim": 4,
  "encoder_rates": [2, 3, 8, 8],
  "decoder_dim": 64,
  "decoder_rates": [8, 8, 3, 2],
  "attn_window_size": 32,
  "codebook_size": 64,
  "codebook_dim": 4,
  "vq_strides": [8, 4, 2, 1],
}


def noise(seed, *shape):
  return (0.3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def save_encodec(folder, **config):
  torch.manual_seed(0)
  model = transformers.EncodecModel(
    transformers.EncodecConfig(
      num_filters=4, hidden_size=8, codebook_size=64, target_bandwidths=[1.8, 3.6], **config
    )
  )
  for layer in model.quantizer.layers:
    layer.codebook.embed.normal_(std=0.03)  # as large as random latents
  model.save_pretrained(folder)
  return model


def save_snac(folder):
  snac = import_extra("snac", "snac", "this test")
  torch.manual_seed(0)
  model = snac.SNAC(**SNAC)
  with torch.no_grad():
    for quantizer in model.quantizer.quantizers:
      quantizer.in_proj.bias.zero_()
    model.encoder.block[-1].bias.zero_()
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps(SNAC))
  torch.save(model.state_dict(), folder / "pytorch_model.bin")
  return model


def save_dac(folder):
  torch.manual_seed(0)
  model = transformers.DacModel(
    transformers.DacConfig(
      encoder_hidden_size=4,
      downsampling_ratios=[2, 4, 5, 8],
      decoder_hidden_size=32,
      n_codebooks=4,
      codebook_size=64,
    )
  ).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if parameter.ndim == 3 and "alpha" not in name:
        parameter.normal_(std=(parameter.shape[1] * parameter.shape[2]) ** -0.5)
  model.save_pretrained(folder)
  return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  pytest.importorskip("einops")  # snac's
  root = tmp_path_factory.mktemp("weights")
  save_encodec(root / "encodec")
  save_snac(root / "snac")
  save_dac(root / "dac_torch")
  return root


SPECS = {
  "dac_torch": ("", (16_000, 50, 4, 64)),
  "encodec": (",bandwidth_kbps=3.6", (24_000, 75, 8, 64)),
  "snac": ("", (32_000, 32_000 / 384 / 8, 15, 64)),
}


@pytest.fixture(params=SPECS)
def codec(request, folders):
  return base.codec_from_spec(f"{request.param}:{folders / request.param}{SPECS[request.param][0]}")


def test_geometry_follows_the_configuration(codec):
  geometry = (codec.sample_rate_hz, codec.frame_rate_hz, codec.num_levels, codec.num_codes)
  assert geometry == SPECS[codec.name][1]
  hop = codec.hop_samples
  codes = codec.encode(noise(0, 5, 2 * hop + 1))  # more clips than are coded at once
  assert codes.shape == (5, 3, codec.num_levels) and codes.dtype == np.int32
  assert len(np.unique(codes)) > 8
  np.testing.assert_array_equal(codes[4], codec.encode(noise(0, 5, 2 * hop + 1)[4]))
  decoded = codec.decode(codes)
  assert decoded.shape == (5, 3 * hop) and decoded.dtype == np.float32
  np.testing.assert_array_equal(decoded, codec.decode(codes))
  assert codec.encode(np.zeros((2, 0))).shape == (2, 0, codec.num_levels)


def test_ten_seconds(codec):
  codes = codec.encode(noise(1, 10 * codec.sample_rate_hz))
  frames = -(-10 * codec.sample_rate_hz // codec.hop_samples)
  assert codes.shape == (frames, codec.num_levels)
  assert codec.decode(codes[:, :4]).shape == (frames * codec.hop_samples,)


@pytest.mark.parametrize("levels", [2, None])
def test_pieces_of_a_stream_join_to_the_whole(codec, levels):
  frames, piece = codec.context_frames * 3 + 7, codec.context_frames + 1
  rng = np.random.default_rng(2)
  codes = rng.integers(0, codec.num_codes, (frames, codec.num_levels))[:, :levels]
  hop, pieces = codec.hop_samples, []
  for start in range(0, frames, piece):
    stop = min(start + piece, frames)
    first = max(0, start - codec.context_frames)
    decoded = codec.decode(codes[first : stop + codec.context_frames], first_frame=first)
    pieces.append(decoded[(start - first) * hop : (stop - first) * hop])
  whole = codec.decode(codes)
  np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-4 * np.abs(whole).max())


def test_save_and_load(codec, tmp_path):
  path = tmp_path / "codec.npz"
  codec.save(path)
  loaded = base.load_codec(path)
  assert (loaded.name, loaded.fingerprint()) == (codec.name, codec.fingerprint())
  np.testing.assert_array_equal(loaded.encode(noise(3, 5000)), codec.encode(noise(3, 5000)))


def test_both_dacs_are_the_same(folders):
  ours, theirs = (base.codec_from_spec(f"{name}:{folders / 'dac_torch'}") for name in ("dac", "dac_torch"))
  waveform = noise(4, 1, 6400)
  codes = theirs.encode(waveform)
  np.testing.assert_array_equal(ours.encode(waveform), codes)
  np.testing.assert_allclose(ours.decode(codes), theirs.decode(codes), atol=1e-4)
  assert ours.fingerprint() != theirs.fingerprint()  # near ties may go to either


def test_encodec_bandwidths(folders, tmp_path):
  assert base.codec_from_spec(f"encodec:{folders / 'encodec'},bandwidth_kbps=1.8").num_levels == 4
  with pytest.raises(InputError, match=r"bandwidth_kbps is 6.0; this EnCodec has 1.8, 3.6"):
    base.codec_from_spec(f"encodec:{folders / 'encodec'}")
  save_encodec(tmp_path, audio_channels=2)
  with pytest.raises(
    InputError, match=r"config.json has audio_channels = 2; expected 1: mono without scales"
  ):
    base.codec_from_spec(f"encodec:{tmp_path}")


def test_snac_levels_are_its_own_codes(folders):
  codec = base.codec_from_spec(f"snac:{folders / 'snac'}")
  waveform = noise(5, 1, 8 * codec.hop_samples)
  with torch.no_grad():
    theirs = codec.model.encode(torch.from_numpy(waveform)[:, None])
  codes = codec.encode(waveform)[0]
  for level, start, stop in ((0, 0, 1), (1, 1, 3), (2, 3, 7), (3, 7, 15)):
    np.testing.assert_array_equal(codes[:, start:stop].reshape(-1), theirs[level][0])
  for noise_block in codec.noises:  # eight frames are two of attention's windows
    noise_block.first_frame, noise_block.frames = 0, 8
  with torch.no_grad():
    expected = codec.model.decode(theirs)[0, 0]
  np.testing.assert_allclose(codec.decode(codes), expected, atol=1e-6)


@pytest.mark.parametrize("kind", SPECS)
def test_weights_of_another_model(folders, kind, tmp_path):
  other = folders / ("encodec" if kind != "encodec" else "dac_torch")
  with pytest.raises(
    InputError, match=r"config.json (is of a model of type|has no vq_strides)|has none of pytorch"
  ):
    base.codec_from_spec(f"{kind}:{other}")
  for path in (folders / kind).iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes() if path.suffix == ".json" else b"damaged")
  with pytest.raises(InputError, match="does not hold the"):
    base.codec_from_spec(f"{kind}:{tmp_path}{SPECS[kind][0]}")
