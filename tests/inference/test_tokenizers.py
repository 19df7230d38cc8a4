"""Tokenisers travel with the model, and no others may take their place."""

import pytest

from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.errors import InputError
from singsong_jax.inference.tokenizers import FOLDER, load_tokenizers, ship_tokenizers
from singsong_jax.tokens.vocabulary import Vocabulary


def test_shipping_copies_both_and_is_idempotent(tokenizers_dir, tmp_path):
  shipped = ship_tokenizers(tokenizers_dir, tmp_path)
  again = ship_tokenizers(tokenizers_dir, tmp_path)
  stored = load_tokenizers(tmp_path / FOLDER)
  assert shipped.codec.fingerprint() == again.codec.fingerprint() == stored.codec.fingerprint()
  assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == ["codec.npz", "semantics.npz"]


def test_another_codec_is_refused(tokenizers_dir, tmp_path, voice):
  ship_tokenizers(tokenizers_dir, tmp_path / "model")
  other = tmp_path / "other"
  settings = MdctSettings(num_codes=16, sweep_seconds=1)
  fit_mdct_codec([voice(1, pitch_hz=500)], settings=settings).save(other / "codec.npz")
  (other / "semantics.npz").write_bytes((tokenizers_dir / "semantics.npz").read_bytes())
  with pytest.raises(InputError, match="another codec"):
    ship_tokenizers(other, tmp_path / "model")


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match=r"codec\.npz"):
    load_tokenizers(tmp_path)


def test_sizes_that_do_not_fit_the_model_are_named(tokenizers_dir, system):
  layout = system(vocabulary=Vocabulary(num_semantic_codes=32, num_acoustic_codes=32)).target_layout
  with pytest.raises(
    InputError, match="codec codes per level: the tokeniser has 16, the model was built for 32"
  ):
    load_tokenizers(tokenizers_dir).check(layout)
