"""A folder of voices, such as Vocadito's, to a folder of accompaniments: one after the other."""

import collections
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

from singsong_jax import files
from singsong_jax.audio.io import AUDIO_SUFFIXES, audio_files
from singsong_jax.errors import InputError

DEAD_LETTERS = "dead_letter.jsonl"


def voices_in(
  folder: str | os.PathLike, output_dir: str | os.PathLike | None = None
) -> dict[str, pathlib.Path]:
  """The audio files of a folder and its subfolders, sorted, by the name their results get.

  That is the path without its suffix; with it, where two would have the same. Where a folder has
  vocals and an instrumental, as songs for the evaluation have, its vocals alone are taken, by its name;
  so are a demo corpus's.

  Args:
    output_dir: where results are put; what lies there is no voice.

  Raises:
    InputError: there is none, or results would lie between the voices.
  """
  root = pathlib.Path(folder)
  if (root / "stems").is_dir():  # a demo corpus, which has mixes, too
    root = root / "stems"
  results = output_dir and pathlib.Path(output_dir).resolve()
  if results == root.resolve():
    raise InputError(f"--output_dir={output_dir} is the folder of voices: results need one of their own")
  paths = audio_files(root)
  if results and root.resolve() in results.parents:
    paths = [path for path in paths if results not in path.resolve().parents]
  names = [path.relative_to(root) for path in paths]
  if not names:
    raise InputError(f"{folder} holds no audio files ({', '.join(AUDIO_SUFFIXES)})")
  songs = {name.parent for name in names if name.stem == "instrumental"}
  songs &= {name.parent for name in names if name.stem == "vocals"}
  voices = {str(name.parent): root / name for name in names if name.parent in songs and name.stem == "vocals"}
  others = [name for name in names if name.parent not in songs]
  same = collections.Counter([*songs, *(name.with_suffix("") for name in others)])
  voices |= {
    str(name if same[name.with_suffix("")] > 1 else name.with_suffix("")): root / name for name in others
  }
  return dict(sorted(voices.items()))


def accompany_all(
  voices: dict[str, pathlib.Path],
  output_dir: str | os.PathLike,
  accompany: Callable[[pathlib.Path, pathlib.Path], list[pathlib.Path]],
) -> Iterator[pathlib.Path]:
  """Calls `accompany(voice, folder)` for each, and yields what it wrote.

  A voice that cannot be used is listed in `dead_letter.jsonl` with its reason, and the others go on.

  Raises:
    InputError: not one could be used.
  """
  output = pathlib.Path(output_dir)
  letters = []
  for name, path in voices.items():
    try:
      yield from accompany(path, output / name)
    except InputError as error:
      print(f"WARNING: {error}", file=sys.stderr)
      letters.append({"vocals": str(path), "reason": str(error)})
  if letters:
    files.write_text(output / DEAD_LETTERS, "".join(json.dumps(letter) + "\n" for letter in letters))
    told = f"{len(letters)} of {len(voices)} voices could not be used: {output / DEAD_LETTERS} says why"
    print(f"WARNING: {told}", file=sys.stderr)
  else:
    (output / DEAD_LETTERS).unlink(missing_ok=True)  # of an earlier call
  if len(letters) == len(voices):
    raise InputError(f"not one of {len(voices)} voices could be used; {output / DEAD_LETTERS} says why")
