"""Everything that decides which records the job writes, and the check that a rerun means the same."""

import dataclasses
import pathlib
from typing import Any

from singsong_jax import files
from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import whole_frames

SONG_RATE_HZ = 44_100  # songs are cut, separated and filtered at this rate (§4.2)


def _option(default: Any, help_text: str) -> Any:
  return dataclasses.field(default=default, metadata={"help": help_text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Changing any of these changes the records. `_option`'s text is also the help of the flag."""

  seed: int = _option(0, "of the noise and of the tokenisers' fit")
  separator: str = _option("repet", "'repet', or 'simulated' for the demo songs")
  stems: str | None = _option(None, "folder with ground-truth stems, for --separator=simulated")
  noise_draws: int = _option(4, "independent noisy tokenisations of each vocal")
  codec: str = _option("soundstream", "'soundstream', 'mdct', kind:SOURCE or a file; docs/tokenizers.md")
  semantics: str = _option("w2v_bert", "'w2v_bert', 'logmel', kind:SOURCE or a file; docs/tokenizers.md")
  fit_clips: int = _option(64, "at most so many training clips are heard by tokenisers that are fitted")
  window_seconds: float = _option(10.0, "length of a clip")
  min_instrumental_db: float = _option(-25.0, "least peak RMS of an instrumental, dB re full scale")
  max_vocal_excess_db: float = _option(5.0, "vocals louder than the instrumental by this are left out")
  validation_fraction: float = _option(0.1, "share of the songs")
  test_fraction: float = _option(0.1, "share of the songs")
  num_shards: int = _option(4, "files in each split")

  def __post_init__(self):
    for name in ("noise_draws", "fit_clips", "num_shards"):
      if getattr(self, name) < 1:
        raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
    fractions = (self.validation_fraction, self.test_fraction)
    if min(fractions) < 0 or sum(fractions) >= 1:
      raise InputError(
        f"validation_fraction {fractions[0]} and test_fraction {fractions[1]} must be ≥ 0 and sum to < 1"
      )
    try:
      whole_frames(self.window_seconds, SONG_RATE_HZ, "SONG_RATE_HZ")
    except ValueError as error:
      raise InputError(f"window_seconds: {error}") from error


@dataclasses.dataclass(frozen=True)
class DataDir:
  """The folder the job fills, and where everything in it lies."""

  root: pathlib.Path

  @property
  def job(self) -> pathlib.Path:
    """What was asked for; written first."""
    return self.root / "job.json"

  @property
  def manifest(self) -> pathlib.Path:
    """What came of it; written last, so that its presence means all is there."""
    return self.root / "manifest.json"

  @property
  def dead_letter(self) -> pathlib.Path:
    return self.root / "dead_letter.jsonl"

  @property
  def clips(self) -> pathlib.Path:
    return self.root / "clips"

  @property
  def tokens(self) -> pathlib.Path:
    return self.root / "tokens"

  @property
  def tokenizers(self) -> pathlib.Path:
    return self.root / "tokenizers"

  @property
  def folders(self) -> tuple[pathlib.Path, ...]:
    return self.clips, self.tokenizers, self.tokens


def start_job(data_dir: DataDir, job: dict[str, Any]) -> None:
  """Records what is asked for, or checks that it is what was asked for before.

  Raises:
    InputError: the folder holds the results of other settings or songs, or somebody else's folders.
  """
  if not data_dir.job.exists():
    if foreign := [folder for folder in data_dir.folders if folder.exists()]:
      raise InputError(f"{foreign[0]} is in the way, and not of this job; give another --output_dir")
    files.write_json(data_dir.job, job)
    return
  before = files.read_json(data_dir.job)
  for name in job.keys() | before.keys():
    if before.get(name) != job.get(name):
      raise InputError(
        f"{data_dir.root} was made with {name}={before.get(name)!r}, now it is {job.get(name)!r}; "
        "give another --output_dir, or --fresh to make it again"
      )
