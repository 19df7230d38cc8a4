"""A data directory as the tasks see it: its manifest, and the files of each split."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping

from singsong_jax import storage
from singsong_jax.errors import InputError
from singsong_jax.tokens.vocabulary import Vocabulary
from singsong_jax.tokens.windows import Geometry
from tasks.schema import SPLITS, RecordSchema, shard_paths

_PREPARE = "prepare the data with `python -m data_pipelines.prepare`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
  """A finished data directory.

  Attributes:
    data_dir: where `manifest.json` is: a folder, or an address in a bucket.
    schema: sizes of its records.
    num_records: of each split.
    num_shards: of each split.
    tokenizers: fingerprints of the codec and the semantic encoder, which give the codes their meaning.
    tokenizer_names: what they are called.
    fingerprint: SHA-256 (hex) of the manifest: equal for equal records.
  """

  data_dir: str
  schema: RecordSchema
  num_records: dict[str, int]
  num_shards: dict[str, int]
  tokenizers: dict[str, str]
  tokenizer_names: dict[str, str]
  fingerprint: str

  @classmethod
  def load(cls, data_dir: str | os.PathLike) -> "Corpus":
    """Reads the manifest.

    Raises:
      InputError: no manifest (the job has not finished), or a damaged one.
    """
    path = f"{storage.absolute(data_dir)}/manifest.json"
    if not storage.exists(path):
      raise InputError(f"{path} does not exist: {data_dir} is not a finished data directory; {_PREPARE}")
    return cls._parse(path)

  @classmethod
  def _parse(cls, path: str) -> "Corpus":
    manifest = storage.read_json(path)
    try:
      splits = {split: manifest["splits"][split] for split in SPLITS}
      return cls(
        data_dir=path.rpartition("/")[0],
        schema=RecordSchema.from_description(manifest["schema"]),
        num_records={split: entry["records"] for split, entry in splits.items()},
        num_shards={split: entry["shards"] for split, entry in splits.items()},
        tokenizers={part: entry["fingerprint"] for part, entry in manifest["tokenizers"].items()},
        tokenizer_names={part: entry["name"] for part, entry in manifest["tokenizers"].items()},
        fingerprint=hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest(),
      )
    except (KeyError, TypeError, ValueError) as error:
      raise InputError(f"{path} is not a manifest of token records: {error!r}; {_PREPARE}") from error

  def check_made_for(self, model_sizes: Mapping[str, float]) -> None:
    """Raises InputError where the records have other sizes than the model's, naming what would mend it.

    Args:
      model_sizes: as `record_sizes`, or part of it.
    """
    sizes = record_sizes(self.schema.vocabulary, self.schema.geometry)
    for name, value in model_sizes.items():
      if sizes[name] != value:
        raise InputError(
          f"{self.data_dir} has {name}={sizes[name]:g}, but the model has {value:g}; {self._advice(name)}"
        )

  def _advice(self, size: str) -> str:
    if size == "window_seconds":
      return f"train with --gin.Geometry.window_seconds={self.schema.geometry.window_seconds:g}"
    part = "semantics" if "semantic" in size else "codec"
    return (
      f"its {part} is {self.tokenizer_names[part]!r}: train with the gin file of that one, --{part}=… of "
      "run_train.sh, or prepare the songs with the model's"
    )

  def check_same_tokenizers(self, other: "Corpus", parts: Iterable[str]) -> None:
    """Raises InputError where a code of one of `parts` means one thing here and another in `other`."""
    for part in parts:
      if other.tokenizers.get(part) != self.tokenizers.get(part):
        raise InputError(
          f"{self.data_dir} and {other.data_dir} were tokenised with different {part}; prepare one with the "
          f"other's files (--codec, --semantics) to train on both"
        )

  def paths(self, split: str) -> list[str]:
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
      if not storage.exists(path):
        raise InputError(f"{path} is missing, though the manifest lists it; {_PREPARE} --fresh")
    return paths

  def check(self, split: str) -> None:
    """Reads every record of a split; raises InputError naming the first fault."""
    self.schema.check_files(self.paths(split))


def record_sizes(
  vocabulary: Vocabulary, geometry: Geometry, parts: Iterable[str] = ("codec", "semantics")
) -> dict[str, float]:
  """What the sizes of records' codes of `parts` follow from, by name; how many levels are coarse does not
  matter to them.
  """
  codes = {name: getattr(vocabulary, name) for name in ("num_semantic_codes", "num_acoustic_codes")}
  not_read = [kind for kind, part in (("acoustic", "codec"), ("semantic", "semantics")) if part not in parts]
  sizes = codes | dataclasses.asdict(geometry)
  return {name: size for name, size in sizes.items() if not any(kind in name for kind in not_read)}
