"""The model that comes with the package: small, documented, and it listens."""

import numpy as np
import pytest

from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.evaluation.musical import RATE_HZ, Truth, measure
from singsong_jax.inference.accompanist import Accompanist
from singsong_jax.inference.models import DEFAULT_MODEL

LIMIT_BYTES = 15_000_000
SONGS, FIRST_SEED = 12, 77_000_000  # a corpus of seed 770; it was trained on 23 and 24


@pytest.fixture(scope="module")
def accompanist():
  return Accompanist.from_checkpoint()


def test_it_is_small_and_its_card_speaks_of_it(accompanist):
  assert sum(path.stat().st_size for path in DEFAULT_MODEL.rglob("*") if path.is_file()) < LIMIT_BYTES
  card = (DEFAULT_MODEL / "card.md").read_text()
  assert accompanist.describe()["model"]["parameters_sha256"] in card
  assert all(f"\n## {title}\n" in card for title in ("Data", "Commands", "Measured", "Limits", "Licence"))


@pytest.mark.slow
def test_it_plays_other_chords_and_beats_for_other_vocals(accompanist):
  """Right vocals fit better than another song's: by the sound, on songs it has not heard."""
  songs = [synthesize_song(FIRST_SEED + i, 10.0, RATE_HZ) for i in range(SONGS)]
  truths = [Truth.from_annotation(song.annotation) for song in songs]
  played = [accompanist.accompany(song.vocals, RATE_HZ, seed=i).instrumental for i, song in enumerate(songs)]
  right = [measure(played[i], truths[i]) for i in range(SONGS)]
  wrong = [measure(played[i - 1], truths[i]) for i in range(SONGS)]
  for name, least in (("chord_24", 0.1), ("beat_f", 0.2)):
    margins = np.array([a[name] - b[name] for a, b in zip(right, wrong)])
    assert margins.mean() > least, (name, margins)
