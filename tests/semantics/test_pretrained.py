"""Public semantic encoders, with tiny random models that their own libraries save."""

import json

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.semantics import base

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)  # what is so small gains nothing from more

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
# Kind → sample rate, frames of the network a second.
RATES = {"hubert": (16_000, 50), "mert": (24_000, 75), "w2v_bert_2": (16_000, 50), "muq": (24_000, 25)}


def noise(seed, *shape):
  return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def save_hubert(folder, norm="group", sample_rate_hz=16_000, **change):
  """HuBERT, or with `change` of its configuration what looks like MERT."""
  torch.manual_seed(0)
  config = transformers.HubertConfig(
    conv_dim=[8] * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    feat_extract_norm=norm,
    do_stable_layer_norm=norm == "layer",
    **SIZES,
  )
  transformers.HubertModel(config).save_pretrained(folder)
  transformers.Wav2Vec2FeatureExtractor(
    sampling_rate=sample_rate_hz, do_normalize=norm == "layer"
  ).save_pretrained(folder)
  path = folder / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))


def save_w2v_bert_2(folder):
  torch.manual_seed(0)
  transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig(**SIZES)).save_pretrained(folder)
  transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)


def muq_state():
  """Weights under the names that MuQ 0.1.0 and MusicFM publish theirs."""
  torch.manual_seed(0)
  config = transformers.Wav2Vec2ConformerConfig(
    position_embeddings_type="rotary", hidden_act="swish", **SIZES
  )
  module = transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer.Wav2Vec2ConformerEncoder(config)
  state = {f"conformer.{name}": tensor for name, tensor in module.state_dict().items()}
  for block, inputs in (0, 1), (1, 4):
    for i, channels in ((1, inputs), (2, 4), (3, inputs)):
      conv, norm = f"conv.conv.{block}.conv{i}", f"conv.conv.{block}.bn{i}"
      state |= {f"{conv}.weight": torch.randn(4, channels, 3, 3) / 6, f"{conv}.bias": torch.zeros(4)}
      state |= {f"{norm}.{name}": torch.ones(4) for name in ("weight", "running_var")}
      state |= {f"{norm}.{name}": torch.zeros(4) for name in ("bias", "running_mean")}
      state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
  state |= {"conv.linear.weight": torch.randn(16, 128) / 12, "conv.linear.bias": torch.zeros(16)}
  unused = {"cls_token": torch.zeros(16), "linear.weight": torch.zeros(9, 16)}  # of training
  return {f"model.{name}": tensor.contiguous() for name, tensor in (state | unused).items()}, config.to_dict()


STATS = {"melspec_2048_mean": 6.8, "melspec_2048_std": 18.4}


def save_muq(folder):
  from safetensors.torch import save_file

  state, config = muq_state()
  folder.mkdir(exist_ok=True)
  save_file(state, folder / "model.safetensors")
  (folder / "config.json").write_text(
    json.dumps({"label_rate": 25, "hop_length": 240, "stat": STATS, "w2v2_config": config})
  )


def save_musicfm(folder):
  folder.mkdir(exist_ok=True)
  torch.save({"state_dict": muq_state()[0]}, folder / "pretrained_msd.pt")
  (folder / "msd_stats.json").write_text(json.dumps(STATS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp("weights")
  save_hubert(root / "hubert")
  save_hubert(root / "large", norm="layer")
  mert = {
    "model_type": "mert_model",
    "feature_extractor_cqt": False,
    "deepnorm": False,
    "torch_dtype": "float32",
  }
  save_hubert(root / "mert", sample_rate_hz=24_000, **mert)
  save_w2v_bert_2(root / "w2v_bert_2")
  save_muq(root / "muq")
  save_musicfm(root / "musicfm")
  return root


@pytest.fixture(params=RATES)
def extractor(request, folders):
  return base.semantic_encoder_or_unfitted(f"{request.param}:{folders / request.param},layer=2,num_codes=8")


def test_ten_seconds_are_250_frames(extractor):
  sample_rate_hz, native_rate_hz = RATES[extractor.name]
  assert (extractor.sample_rate_hz, extractor.frame_rate_hz) == (sample_rate_hz, 25)
  assert extractor.pool == native_rate_hz / 25
  features = extractor.features(noise(0, 10 * sample_rate_hz))
  assert features.shape == (250, 16) and features.dtype == np.float32
  hop = sample_rate_hz // 25
  for samples, frames in ((0, 0), (1, 1), (hop, 1), (hop + 1, 2)):
    assert extractor.features(noise(0, samples)).shape == (frames, 16)


def test_batches_equal_single_clips(extractor):
  clips = noise(1, 5, 1, 4 * extractor.hop_samples)  # more than are heard at once
  np.testing.assert_allclose(extractor.features(clips)[4, 0], extractor.features(clips[4, 0]), atol=1e-5)


@pytest.mark.parametrize("name", ["hubert", "large", "mert"])
def test_features_are_the_means_of_transformers_hidden_states(folders, name):
  kind = "mert" if name == "mert" else "hubert"
  ours = base.semantic_encoder_or_unfitted(f"{kind}:{folders / name},layer=2,num_codes=8")
  prepare = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folders / name)
  config = transformers.HubertConfig.from_pretrained(folders / name, model_type="hubert")
  model = transformers.HubertModel.from_pretrained(folders / name, config=config).eval()
  waveform = 3 * noise(2, 12 * ours.hop_samples) + 0.2
  prepared = prepare(waveform, sampling_rate=ours.sample_rate_hz, return_tensors="np")["input_values"]
  padded = torch.from_numpy(np.pad(prepared, [(0, 0), (0, 80)]).astype(np.float32))
  with torch.no_grad():
    hidden = model(padded, output_hidden_states=True).hidden_states[2]
  np.testing.assert_allclose(
    ours.features(waveform), hidden.reshape(12, ours.pool, 16).mean(axis=1), atol=1e-5
  )


def test_w2v_bert_2_hears_log_mel(folders):
  ours = base.semantic_encoder_or_unfitted(f"w2v_bert_2:{folders / 'w2v_bert_2'},layer=3,pool=1,num_codes=8")
  prepare = transformers.SeamlessM4TFeatureExtractor.from_pretrained(folders / "w2v_bert_2")
  model = transformers.Wav2Vec2BertModel.from_pretrained(folders / "w2v_bert_2").eval()
  waveform = noise(3, 3200)
  padded = np.pad(waveform, (0, 240))
  with torch.no_grad():
    inputs = prepare(padded, sampling_rate=16_000, return_tensors="pt")
    hidden = model(**inputs, output_hidden_states=True).hidden_states[3][0]
  assert ours.frame_rate_hz == 50
  np.testing.assert_allclose(ours.features(waveform), hidden, atol=1e-5)


def test_musicfm_and_muq_are_one_network(folders):
  muq = base.semantic_encoder_or_unfitted(f"muq:{folders / 'muq'},layer=2,num_codes=8")
  musicfm = base.semantic_encoder_or_unfitted(f"musicfm:{folders / 'musicfm'},layer=2,trained_on=msd")
  waveform = noise(4, 9600)
  np.testing.assert_array_equal(muq.features(waveform), musicfm.features(waveform))
  assert musicfm.num_codes == 1024
  with pytest.raises(InputError, match=r"musicfm lacks fma_stats.json"):
    base.semantic_encoder_or_unfitted(f"musicfm:{folders / 'musicfm'}")


def test_fit_encode_save_load(extractor, tmp_path):
  clips = [noise(seed, extractor.sample_rate_hz) for seed in range(4)]
  encoder = extractor.fit(iter(clips), seed=0)
  assert encoder.num_codes == 8 and encoder.frame_rate_hz == 25
  codes = encoder.encode(np.stack(clips))
  assert codes.shape == (4, 25) and codes.dtype == np.int32
  assert 1 < len(np.unique(codes)) and codes.max() < 8
  path = tmp_path / "semantics.npz"
  encoder.save(path)
  loaded = base.load_semantic_encoder(path)
  assert (loaded.name, loaded.fingerprint()) == (extractor.name, encoder.fingerprint())
  assert loaded.source["frames"] == 100
  np.testing.assert_array_equal(loaded.encode(clips[0]), codes[0])


def test_settings_are_part_of_what_codes_depend_on(folders):
  describe = lambda settings: base.semantic_encoder_or_unfitted(
    f"hubert:{folders / 'hubert'},{settings}"
  ).describe()
  described = [describe(s) for s in ("layer=2", "layer=3", "layer=2,pool=1", "layer=2,num_codes=8")]
  assert len({json.dumps(d, sort_keys=True) for d in described}) == 4
  assert described[0] == {
    "kind": "hubert",
    "num_codes": 1024,
    "sha256": described[0]["sha256"],
    "layer": 2,
    "pool": 2,
  }


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("hubert:{}/hubert", r"layer is 9; the hubert in .*/hubert has 1 … 3"),
    ("hubert:{}/hubert,layer=2,pool=0", "pool is 0; expected a whole number of at least 1"),
    ("hubert:{}/w2v_bert_2,layer=2", r"config.json is of a model of type 'wav2vec2-bert'; expected 'hubert'"),
    ("mert:{}/hubert,layer=2", r"config.json is of a model of type 'hubert'; expected 'mert_model'"),
    ("muq:{}/hubert,layer=2", r"config.json has no w2v2_config or no stat; expected MuQ's"),
    ("musicfm:{}/musicfm,trained_on=mp3", "trained_on is 'mp3'; choose fma or msd"),
  ],
)
def test_bad_settings_and_other_models(folders, spec, message):
  with pytest.raises(InputError, match=message):
    base.semantic_encoder_or_unfitted(spec.format(folders))


def test_weights_that_do_not_fit(folders, tmp_path):
  save_hubert(tmp_path / "mert", model_type="mert_model", feature_extractor_cqt=True)
  with pytest.raises(
    InputError, match=r"config.json has feature_extractor_cqt turned on; expected a MERT without"
  ):
    base.semantic_encoder_or_unfitted(f"mert:{tmp_path / 'mert'},layer=2")
  save_hubert(tmp_path / "wide", num_hidden_layers=4)
  with pytest.raises(
    InputError, match=r"model.safetensors does not hold the HubertModel .*: 16 weights are missing"
  ):
    base.semantic_encoder_or_unfitted(f"hubert:{tmp_path / 'wide'},layer=2")
  save_muq(tmp_path / "muq")
  (tmp_path / "muq" / "model.safetensors").write_bytes(
    (folders / "hubert" / "model.safetensors").read_bytes()
  )
  with pytest.raises(InputError, match=r"does not hold the muq .*: KeyError 'conv.conv.0.conv1.weight'"):
    base.semantic_encoder_or_unfitted(f"muq:{tmp_path / 'muq'},layer=2")


def test_bad_audio(folders):
  extractor = base.semantic_encoder_or_unfitted(f"hubert:{folders / 'hubert'},layer=2,num_codes=8")
  with pytest.raises(InputError, match="NaN or infinite"):
    extractor.features(np.array([np.inf]))
  with pytest.raises(InputError, match="cannot fit a code book to 2 clips without any sound"):
    extractor.fit([np.zeros(640), np.zeros(640)], seed=0)
  with pytest.raises(InputError, match="cannot fit a code book to 0 clips"):
    extractor.fit([], seed=0)
