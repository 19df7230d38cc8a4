"""Several models on the ladder of artefacts, from what the judge wrote."""

import copy
import json

import matplotlib.image
import numpy as np
import pytest

from singsong_jax.errors import InputError
from singsong_jax.evaluation import artefacts


def results(
  chords=(0.5, 0.4, 0.3), vocals=("separated (repet)", "noise of 0.01"), names=("a", "b"), digest="of a and b"
):
  """What a judge that was asked for those vocals writes, as far as it is read."""
  rows = {f"model, {kind}": {"chord_24": c, "beat_f": c / 2} for kind, c in zip(("right", *vocals), chords)}
  rows["model, shuffled"] = {"chord_24": 0.04, "beat_f": 0.25}
  return {
    "rows": rows,
    "intervals": {row: {m: [v - 0.1, v + 0.05] for m, v in found.items()} for row, found in rows.items()},
    "run": {"vocals": [*vocals], "names": [*names], "digest": digest},
  }


def write(folder, found):
  folder.mkdir()
  (folder / "results.json").write_text(json.dumps(found))
  return artefacts.Ladder.read(folder)


def test_a_ladder_is_read_rung_by_rung(tmp_path):
  ladder = write(tmp_path / "a", results())
  assert list(ladder.rungs) == ["isolated", "separated (repet)", "noise of 0.01"]
  np.testing.assert_allclose(ladder.values["chord_24"], [0.5, 0.4, 0.3])
  np.testing.assert_allclose(ladder.lows["beat_f"], [0.15, 0.1, 0.05])
  np.testing.assert_allclose(ladder.highs["chord_24"], [0.55, 0.45, 0.35])
  assert ladder.floors == {"chord_24": 0.04, "beat_f": 0.25}


def test_the_numbers_of_the_picture(tmp_path):
  clean = write(tmp_path / "a", results())
  lines = artefacts.markdown({"Clean": clean, "Noisy": clean}).splitlines()
  assert lines[0] == "| | | isolated | separated (repet) | noise of 0.01 | another song's |"
  assert lines[3] == "| Noisy | `chord_24` | 0.50 | 0.40 | 0.30 | 0.04 |" and len(lines) == 6


def test_a_picture_of_two_models(tmp_path):
  """Another model is another line: some of the pixels differ, and only some."""
  clean = write(tmp_path / "a", results())
  noisy = write(tmp_path / "b", results(chords=(0.45, 0.44, 0.43)))
  pictures = []
  for number, other in enumerate((clean, noisy)):
    artefacts.draw({"Clean": clean, "Noisy": other}, tmp_path / f"{number}.png")
    pictures.append(matplotlib.image.imread(tmp_path / f"{number}.png"))
  differing = (pictures[0] != pictures[1]).any(axis=-1).mean()
  assert 0 < differing < 0.1


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    (
      {"vocals": ("separated (repet)",)},
      "Clean and Noisy were judged on other rungs: 3 and 2.*noise of 0.01",
    ),
    ({"names": ("a", "c")}, "other songs: 2 and 2.*'b', 'c'"),
    ({"digest": "another"}, "other songs, which have the same names"),
  ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, words):
  clean, noisy = write(tmp_path / "a", results()), write(tmp_path / "b", results(**changes))
  with pytest.raises(InputError, match=words):
    artefacts.draw({"Clean": clean, "Noisy": noisy}, tmp_path / "picture.png")
  assert not (tmp_path / "picture.png").exists()


def test_other_files_are_refused(tmp_path):
  with pytest.raises(InputError, match="isolated vocals alone"):
    write(tmp_path / "a", results(vocals=()))
  older = copy.deepcopy(results())
  del older["run"]["digest"]
  with pytest.raises(InputError, match=r"not what judge writes.*'digest'"):
    write(tmp_path / "c", older)
  damaged = copy.deepcopy(results())
  del damaged["rows"]["model, noise of 0.01"]
  with pytest.raises(InputError, match=r"not what judge writes.*noise of 0\.01"):
    write(tmp_path / "b", damaged)
