"""The model that comes with the package: small, documented, and it listens."""

import pytest

from singsong_jax.audio.synthesis.corpus import CorpusSettings, write_corpus
from singsong_jax.evaluation import vocal_use
from singsong_jax.evaluation.judgement import Judge
from singsong_jax.evaluation.making import Maker, accompany_with
from singsong_jax.evaluation.songs import find_songs
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.models import DEFAULT_MODEL

LIMIT_BYTES = 15_000_000
SONGS = 20  # of seed 770; it was trained on 23 and 24


@pytest.fixture(scope="module")
def accompanist():
  return Accompanist.from_checkpoint()


def test_it_is_small_and_its_card_speaks_of_it(accompanist):
  assert sum(path.stat().st_size for path in DEFAULT_MODEL.rglob("*") if path.is_file()) < LIMIT_BYTES
  card = (DEFAULT_MODEL / "card.md").read_text()
  assert accompanist.describe()["model"]["parameters_sha256"] in card
  assert all(f"\n## {title}\n" in card for title in ("Data", "Commands", "Measured", "Limits", "Licence"))


@pytest.mark.slow
def test_it_passes_the_gate_as_far_as_a_few_songs_can_tell(tmp_path, accompanist):
  """By the sound, on songs it has not heard. All eight comparisons take the 96 songs of
  `benchmarks.default_model`: beats that follow vocals half a beat later are the hardest.
  """
  write_corpus(tmp_path / "songs", CorpusSettings(num_songs=SONGS, song_seconds=10.0, seed=770))
  judge = Judge(songs=find_songs(tmp_path / "songs"), maker=Maker(folder=tmp_path))
  rows = judge.conditions(accompany_with(accompanist), ("right", "shuffled", "tritone"))
  found = vocal_use.compare(rows)
  assert len(found) == 3
  assert all(comparison.holds for comparison in found), found
