"""Models that do not belong together, or not in that place."""

import dataclasses
import types

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.errors import InputError
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.models import FINE_FOLDER, SAMPLING_FILE, Models, load_models
from singsong_jax.inference.sampling_flags import chosen_options
from singsong_jax.inference.tokenizers import FOLDER


def test_the_fine_stage_is_found_beside_the_model_or_where_it_is_said_to_be(
  model_dir, fine_model_dir, tmp_path
):
  assert load_models(model_dir).fine is None
  assert load_models(model_dir, fine_model_dir=fine_model_dir).fine.step == 7
  assert load_models(model_dir, fine_model_dir=fine_model_dir, skip_fine=True).fine is None
  beside = tmp_path / "model"
  beside.mkdir()
  for name in ("model.json", "checkpoints", FOLDER):
    (beside / name).symlink_to(model_dir / name)
  (beside / FINE_FOLDER).symlink_to(fine_model_dir)
  assert load_models(beside).fine.step == 7
  assert load_models(beside, skip_fine=True).fine is None


def test_a_model_of_the_wrong_stage_is_refused(model_dir, fine_model_dir, tmp_path):
  with pytest.raises(InputError, match=r"stage 'fine', not 'singsong'.*--fine_model_dir"):
    load_models(fine_model_dir)
  with pytest.raises(InputError, match=r"stage 'singsong', not 'fine'.*--model_dir"):
    load_models(model_dir, fine_model_dir=model_dir)
  with pytest.raises(InputError, match=r"not a model directory"):
    load_models(model_dir, fine_model_dir=tmp_path)


def test_a_fine_stage_of_another_codec_is_refused(model_dir, fine_model_dir, tmp_path, voice):
  for name in ("model.json", "checkpoints"):
    (tmp_path / name).symlink_to(fine_model_dir / name)
  settings = MdctSettings(num_codes=16, sweep_seconds=1)
  fit_mdct_codec([voice(1, pitch_hz=500)], settings=settings).save(tmp_path / FOLDER / "codec.npz")
  (tmp_path / FOLDER / "semantics.npz").write_bytes((model_dir / FOLDER / "semantics.npz").read_bytes())
  with pytest.raises(InputError, match="another codec"):
    load_models(model_dir, fine_model_dir=tmp_path)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"num_coarse_levels": 3}, "coarse levels: the fine stage has 3, what it is to refine has 4"),
    ({"num_levels": 8}, "levels: the fine stage has 8"),
    ({"num_acoustic_codes": 17}, "codes per level: the fine stage has 17"),
    ({"acoustic_rate_hz": 100.0}, "frames per second: the fine stage has 100"),
    ({"chunk_seconds": 3.0}, "chunk_seconds is 3, longer than a window of 1 s"),
  ],
)
def test_a_fine_stage_of_other_sizes_is_refused(model_dir, fine_system, changes, words):
  models = load_models(model_dir)
  fine = dataclasses.replace(models.coarse, system=fine_system(**changes))
  with pytest.raises(InputError, match=words):
    Models(models.coarse, fine, models.tokenizers, models.folder)


def test_tokenisers_of_another_model_are_refused(model_dir, system):
  models = load_models(model_dir)
  geometry = dataclasses.replace(system().geometry, acoustic_rate_hz=25)
  other = dataclasses.replace(models.coarse, system=system(geometry=geometry))
  with pytest.raises(InputError, match="codec frames per second"):
    Models(other, None, models.tokenizers, models.folder)


def test_the_hash_is_of_the_parameters(model_dir, fine_model_dir):
  first, again = load_models(model_dir).coarse, load_models(model_dir).coarse
  assert first.sha256 == again.sha256
  changed = dataclasses.replace(first, params={**first.params, "extra": first.params["token_embedder"]})
  assert changed.sha256 != first.sha256


def test_a_model_says_what_it_is_best_played_with(model_dir, tmp_path, voice):
  for name in ("model.json", "checkpoints", FOLDER):
    (tmp_path / name).symlink_to(model_dir / name)
  assert load_models(tmp_path).options == SamplingOptions()  # the paper's
  (tmp_path / SAMPLING_FILE).write_text('{"temperature": 0.5, "top_k": 3}')
  model = Accompanist.from_checkpoint(tmp_path)
  assert model.options == SamplingOptions(temperature=0.5, top_k=3)
  assert model.accompany(voice(1.0), 16_000).details["sampling"]["top_k"] == 3
  asked = model.accompany(voice(1.0), 16_000, options=SamplingOptions())
  assert asked.details["sampling"]["top_k"] == 0
  (tmp_path / SAMPLING_FILE).write_text('{"warmth": 0.5}')
  with pytest.raises(InputError, match=r"sampling\.json.*warmth"):
    load_models(tmp_path)


def test_flags_go_before_what_the_model_says():
  flags.FLAGS.mark_as_parsed()
  said = SamplingOptions(temperature=0.5, guidance_scale=2.0)
  assert chosen_options(said) == said
  with flagsaver.flagsaver(temperature=0.9, top_k=0):
    assert chosen_options(said) == SamplingOptions(temperature=0.9, guidance_scale=2.0)
  with flagsaver.flagsaver(top_p=1.5), pytest.raises(InputError, match="top_p"):
    chosen_options(said)


def test_semantic_codes_alone_are_heard_where_their_encoder_can_play_them(
  make_model, system, voice, fine_model_dir
):
  folder = make_model(system(features="s_s"))
  models = load_models(folder)
  assert models.codec is models.tokenizers.semantics
  result = Accompanist(models).accompany(voice(2.3), 16_000)
  assert result.instrumental.shape == (36_800,) and np.abs(result.instrumental).max() > 0
  assert result.details["windows"] == 4
  with pytest.raises(InputError, match="makes none; skip it"):
    load_models(folder, fine_model_dir=fine_model_dir)
  mute = dataclasses.replace(models.tokenizers, semantics=types.SimpleNamespace(name="w2v_bert"))
  with pytest.raises(InputError, match="w2v_bert cannot play"):
    mute.heard_through("s")
