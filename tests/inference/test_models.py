"""Models that do not belong together, or not in that place."""

import dataclasses

import pytest

from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.errors import InputError
from singsong_jax.inference.models import FINE_FOLDER, Models, load_models
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
