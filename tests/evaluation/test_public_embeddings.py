"""MERT, EnCodec and CLAP with tiny random weights that `transformers` saved, against its own calls."""

import json

import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation.embeddings import get_embedding

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)  # what is so small gains nothing from more


def noise(samples, seed=0):
  return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def mert(tmp_path_factory):
  folder = tmp_path_factory.mktemp("mert")
  torch.manual_seed(0)
  config = transformers.HubertConfig(
    conv_dim=[8] * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=32,
  )
  transformers.HubertModel(config).save_pretrained(folder)
  transformers.Wav2Vec2FeatureExtractor(sampling_rate=24_000, do_normalize=False).save_pretrained(folder)
  path = folder / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "mert_model"}))
  return folder


@pytest.fixture(scope="module")
def encodec(tmp_path_factory):
  folder = tmp_path_factory.mktemp("encodec")
  torch.manual_seed(0)
  config = transformers.EncodecConfig(
    num_filters=4, hidden_size=16, codebook_size=16, codebook_dim=16, upsampling_ratios=[8, 5, 4, 2]
  )
  transformers.EncodecModel(config).save_pretrained(folder)
  return folder


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
  folder = tmp_path_factory.mktemp("clap")
  torch.manual_seed(0)
  audio = transformers.ClapAudioConfig(
    patch_embeds_hidden_size=8,
    depths=[1, 1],
    num_attention_heads=[1, 2],
    hidden_size=16,
    num_hidden_layers=2,
    enable_fusion=False,
    projection_dim=12,
  )
  text = transformers.ClapTextConfig(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=20
  )
  config = transformers.ClapConfig(
    text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=12
  )
  transformers.ClapModel(config).save_pretrained(folder)
  transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
  return folder


def test_mert_is_a_blocks_output_75_times_a_second(mert):
  embedding = get_embedding(f"mert:{mert},layer=2")
  assert (embedding.sample_rate_hz, embedding.name) == (24_000, "MERT, block 2")
  clip = noise(48_000)  # the last of its 150 frames lacks 80 samples, which are silent
  vectors = embedding.embed(clip)
  assert vectors.shape == (150, 16)
  model = transformers.HubertModel.from_pretrained(
    mert,
    config=transformers.HubertConfig(
      **{**json.loads((mert / "config.json").read_text()), "model_type": "hubert"}
    ),
  ).eval()
  with torch.inference_mode():
    states = (
      model(torch.from_numpy(np.pad(clip, (0, 80)))[None], output_hidden_states=True)
      .hidden_states[2][0]
      .numpy()
    )
  np.testing.assert_allclose(vectors, states, atol=1e-4)


def test_encodec_is_what_the_quantizer_is_given(encodec):
  embedding = get_embedding(f"encodec:{encodec}")
  clip = noise(24_000)
  vectors = embedding.embed(clip)
  assert vectors.shape == (75, 16)
  model = transformers.EncodecModel.from_pretrained(encodec).eval()
  with torch.inference_mode():
    np.testing.assert_allclose(
      vectors.T, model.encoder(torch.from_numpy(clip)[None, None])[0].numpy(), atol=1e-5
    )


def test_clap_has_a_vector_for_each_second_begun(clap):
  embedding = get_embedding(f"clap:{clap}")
  assert embedding.sample_rate_hz == 48_000
  clip = noise(12 * 48_000)
  vectors = embedding.embed(clip)
  assert vectors.shape == (12, 12)
  extractor = transformers.ClapFeatureExtractor.from_pretrained(clap)
  model = transformers.ClapModel.from_pretrained(clap).eval()
  with torch.inference_mode():
    for second in (0, 11):
      window = np.pad(clip[second * 48_000 :], (0, 480_000))[:480_000]
      found = model.get_audio_features(**extractor(window, sampling_rate=48_000, return_tensors="pt"))
      np.testing.assert_allclose(vectors[second], getattr(found, "pooler_output", found)[0], atol=1e-4)
  assert embedding.embed(np.zeros(0, np.float32)).shape == (0, 12)


def test_weights_of_something_else_are_refused(mert, encodec):
  with pytest.raises(InputError, match=r"config\.json"):
    get_embedding(f"clap:{encodec}")
  with pytest.raises(InputError, match=r"layer is 9; the mert in .* has 1 … 3"):
    get_embedding(f"mert:{mert},layer=9")
