"""Another codec for songs that were separated before: one stage, not two."""

import pytest

from data_pipelines import job
from singsong_jax import files
from singsong_jax.codecs.mdct import MdctSettings, fit_mdct_codec
from singsong_jax.errors import InputError


@pytest.fixture
def other_codec(tmp_path):
  import numpy as np

  clips = [np.random.default_rng(9).normal(0, 0.1, 16_000).astype(np.float32)]
  path = tmp_path / "other.npz"
  fit_mdct_codec(clips, settings=MdctSettings(num_codes=8, num_levels=3, iterations=1)).save(path)
  return str(path)


def tokens(root):
  return {path.name: path.read_bytes() for path in (root / "tokens").glob("*-of-*")}


def prepare(settings, output, **options):
  return job.prepare(settings=settings, output_dir=str(output), **options)


def test_clips_taken_over_give_what_separating_anew_would(
  songs, settings, separator, tmp_path, replace, other_codec, monkeypatch
):
  prepare(settings, tmp_path / "first", songs=str(songs))
  changed = replace(settings, codec=other_codec, seed=3)
  prepare(changed, tmp_path / "anew", songs=str(songs))
  with monkeypatch.context() as patch:
    patch.setattr("data_pipelines.make_clips.separate", None)  # nothing is separated
    manifest = prepare(changed, tmp_path / "taken", clips_from=str(tmp_path / "first"))
  assert tokens(tmp_path / "taken") == tokens(tmp_path / "anew") != tokens(tmp_path / "first")
  assert not (tmp_path / "taken" / "clips").exists()
  expected = files.read_json(tmp_path / "anew" / "manifest.json")
  assert manifest["job"] == expected["job"] and manifest["splits"] == expected["splits"]
  prepare(changed, tmp_path / "taken", clips_from=str(tmp_path / "first"))  # again: nothing to do


def test_other_shards_and_splits_are_fine(songs, settings, separator, tmp_path, replace):
  prepare(settings, tmp_path / "first", songs=str(songs))
  changed = replace(settings, num_shards=3, test_fraction=0.5)
  prepare(changed, tmp_path / "anew", songs=str(songs))
  prepare(changed, tmp_path / "taken", clips_from=str(tmp_path / "first"))
  assert tokens(tmp_path / "taken") == tokens(tmp_path / "anew")


def test_what_the_clips_do_not_fit(songs, settings, separator, tmp_path, replace):
  prepare(settings, tmp_path / "first", songs=str(songs))
  taken = {"clips_from": str(tmp_path / "first")}
  with pytest.raises(InputError, match=r"--min_instrumental_db=-30.0: the clips of .* were made with -25.0"):
    prepare(replace(settings, min_instrumental_db=-30.0), tmp_path / "out", **taken)
  with pytest.raises(
    InputError, match=r"have 16000 Hz, and a tokeniser hears 24000: .*--clips_rate_hz=24000"
  ):
    prepare(replace(settings, codec="mdct,sample_rate_hz=24000"), tmp_path / "out", **taken)
  with pytest.raises(InputError, match="give one of --songs and --clips_from"):
    prepare(settings, tmp_path / "out", songs=str(songs), **taken)
  with pytest.raises(InputError, match=r"cannot read .*nowhere/job\.json"):
    prepare(settings, tmp_path / "out", clips_from=str(tmp_path / "nowhere"))
  assert not (tmp_path / "out").exists()
  with pytest.raises(InputError, match="--clips_from and --output_dir are the same"):
    prepare(settings, tmp_path / "first", fresh=True, **taken)
  assert (tmp_path / "first" / "clips").exists()


def test_clips_of_a_higher_rate_serve_both(songs, settings, separator, tmp_path, replace):
  settings = replace(settings, clips_rate_hz=24_000)
  prepare(settings, tmp_path / "first", songs=str(songs))
  manifest = prepare(
    replace(settings, clips_rate_hz=0, codec="mdct,sample_rate_hz=24000,num_codes=8,num_levels=2"),
    tmp_path / "second",
    clips_from=str(tmp_path / "first"),
  )
  assert manifest["schema"]["geometry"]["sample_rate_hz"] == 24_000
  assert manifest["job"]["clips_rate_hz"] == 24_000


def test_clips_can_be_thrown_away(songs, settings, separator, tmp_path):
  prepare(settings, tmp_path / "out", songs=str(songs), keep_clips=False)
  assert not (tmp_path / "out" / "clips").exists() and tokens(tmp_path / "out")
  prepare(settings, tmp_path / "out", songs=str(songs))  # still complete
  with pytest.raises(InputError, match="has no clips/: it was made with --keep_clips=false"):
    prepare(settings, tmp_path / "again", clips_from=str(tmp_path / "out"))
