"""A data directory as the tasks see it: its manifest, and the files of each split."""

import dataclasses
import hashlib
import json
import os
import pathlib

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry
from tasks.schema import SPLITS, RecordSchema, shard_paths

_PREPARE = "prepare the data with `python -m data_pipelines.prepare`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
  """A finished data directory.

  Attributes:
    data_dir: the folder with `manifest.json`.
    schema: sizes of its records.
    num_records: of each split.
    num_shards: of each split.
    tokenizers: fingerprints of the codec and the semantic encoder, which give the codes their meaning.
    fingerprint: SHA-256 (hex) of the manifest: equal for equal records.
  """

  data_dir: pathlib.Path
  schema: RecordSchema
  num_records: dict[str, int]
  num_shards: dict[str, int]
  tokenizers: dict[str, str]
  fingerprint: str

  @classmethod
  def load(
    cls,
    data_dir: str | os.PathLike,
    vocabulary: Vocabulary = Vocabulary(),
    geometry: Geometry = Geometry(),
  ) -> "Corpus":
    """Reads the manifest and compares it with what the model expects.

    Raises:
      InputError: no manifest (the job has not finished), a damaged one, or other sizes than expected.
    """
    path = pathlib.Path(data_dir) / "manifest.json"
    if not path.exists():
      raise InputError(f"{path} does not exist: {data_dir} is not a finished data directory; {_PREPARE}")
    corpus = cls._parse(path)
    corpus._check("vocabulary", vocabulary, path)
    corpus._check("geometry", geometry, path)
    return corpus

  @classmethod
  def _parse(cls, path: pathlib.Path) -> "Corpus":
    manifest = files.read_json(path)
    try:
      splits = {split: manifest["splits"][split] for split in SPLITS}
      return cls(
        data_dir=path.parent,
        schema=RecordSchema.from_description(manifest["schema"]),
        num_records={split: entry["records"] for split, entry in splits.items()},
        num_shards={split: entry["shards"] for split, entry in splits.items()},
        tokenizers={part: entry["fingerprint"] for part, entry in manifest["tokenizers"].items()},
        fingerprint=hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest(),
      )
    except (KeyError, TypeError, ValueError) as error:
      raise InputError(f"{path} is not a manifest of token records: {error!r}; {_PREPARE}") from error

  def _check(self, what: str, expected: Vocabulary | Geometry, path: pathlib.Path) -> None:
    found = getattr(self.schema, what)
    if found != expected:
      raise InputError(f"{path} records {found}, but the model has {expected}; use data of the same {what}")

  def check_same_tokenizers(self, other: "Corpus") -> None:
    """Raises InputError where a code means one thing here and another in `other`."""
    for part, fingerprint in self.tokenizers.items():
      if other.tokenizers.get(part) != fingerprint:
        raise InputError(
          f"{self.data_dir} and {other.data_dir} were tokenised with different {part}; prepare one with the "
          f"other's files (--codec, --semantics) to train on both"
        )

  def paths(self, split: str) -> list[pathlib.Path]:
    """The files of a split, in order. Raises InputError for an empty split or a missing file."""
    if split not in SPLITS:
      raise InputError(f"split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
    if not self.num_records[split]:
      raise InputError(
        f"the {split} split of {self.data_dir} has no records; add songs, or give "
        "`data_pipelines.prepare` other --validation_fraction and --test_fraction"
      )
    paths = shard_paths(self.data_dir, split, self.num_shards[split])
    for path in paths:
      if not path.exists():
        raise InputError(f"{path} is missing, though the manifest lists it; {_PREPARE} --fresh")
    return paths

  def check(self, split: str) -> None:
    """Reads every record of a split; raises InputError naming the first fault."""
    self.schema.check_files(self.paths(split))
