"""Everything that decides which records the job writes, and the check that a rerun means the same."""

import dataclasses
from typing import Any

from data_pipelines.sources.base import Song
from singsong_jax import storage
from singsong_jax.audio.filtering import FilterSettings
from singsong_jax.errors import InputError
from singsong_jax.tokens.windows import whole_frames

SONGS_PER_SHARD = 200  # of the paper's, 2.8 minutes each: 9 h of music, 0.5 GB of records
SONG_RATE_HZ = 44_100  # songs are cut, separated and filtered at this rate (§4.2)


def _option(default: Any, help_text: str) -> Any:
  return dataclasses.field(default=default, metadata={"help": help_text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Changing any of these changes the records. `_option`'s text is also the help of the flag."""

  seed: int = _option(0, "of the noise and of the tokenisers' fit")
  separator: str = _option("repet", "'repet', mdx:vocals.onnx, demucs:…, 'isolated' …; docs/data.md")
  exclude: str | None = _option(
    None, "songs that must not be used: a file of `data_pipelines.list_exclusions`"
  )
  filter: str = _option("singsong", "'singsong', 'none', 'fastsag' or 'musdb': which clips are kept")
  noise_draws: int = _option(4, "independent noisy tokenisations of each vocal")
  codec: str = _option("soundstream", "'soundstream', 'mdct', kind:SOURCE or a file; docs/tokenizers.md")
  semantics: str = _option("w2v_bert", "'w2v_bert', 'logmel', kind:SOURCE or a file; docs/tokenizers.md")
  fit_clips: int = _option(64, "at most so many training clips are heard by tokenisers that are fitted")
  window_seconds: float = _option(10.0, "length of a clip")
  min_instrumental_db: float = _option(-25.0, "--filter=singsong: least peak RMS of an instrumental, dB")
  max_vocal_excess_db: float = _option(5.0, "--filter=singsong: vocals louder than that by this are left out")
  min_vocals_db: float = _option(-25.0, "--filter=musdb: the vocals' peak RMS must be above, dB")
  clips_rate_hz: int = _option(0, "of the stored clips; 0: the highest that one of the tokenisers hears")
  validation_fraction: float = _option(0.1, "share of the songs")
  test_fraction: float = _option(0.1, "share of the songs")
  num_shards: int = _option(0, "files in each split; 0: one for every 200 songs, 4 or more")

  def __post_init__(self):
    for name, least in (("noise_draws", 1), ("fit_clips", 1), ("num_shards", 0), ("clips_rate_hz", 0)):
      if getattr(self, name) < least:
        raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")
    _ = self.filter_settings  # complains where it must
    fractions = (self.validation_fraction, self.test_fraction)
    if min(fractions) < 0 or sum(fractions) >= 1:
      raise InputError(
        f"validation_fraction {fractions[0]} and test_fraction {fractions[1]} must be ≥ 0 and sum to < 1"
      )
    try:
      whole_frames(self.window_seconds, SONG_RATE_HZ, "SONG_RATE_HZ")
    except ValueError as error:
      raise InputError(f"window_seconds: {error}") from error

  @property
  def filter_settings(self) -> FilterSettings:
    """The filter's part."""
    return FilterSettings(
      rule=self.filter,
      min_instrumental_db=self.min_instrumental_db,
      max_vocal_excess_db=self.max_vocal_excess_db,
      min_vocals_db=self.min_vocals_db,
    )

  def split(self, song: Song) -> str:
    """Which split a song belongs to."""
    return song.split(self.validation_fraction, self.test_fraction)

  def for_songs(self, num_songs: int) -> "Settings":
    """With the number of shards that fits so many songs, where it was left open."""
    return dataclasses.replace(self, num_shards=self.num_shards or max(4, -(-num_songs // SONGS_PER_SHARD)))


# What clips depend on, besides the songs: `--clips_from` takes them from the job that made the clips.
CLIP_SETTINGS = (
  "separator",
  "exclude",
  "filter",
  "window_seconds",
  "min_instrumental_db",
  "max_vocal_excess_db",
  "min_vocals_db",
)


@dataclasses.dataclass(frozen=True)
class DataDir:
  """The folder the job fills, of this machine or in a bucket, and where everything in it lies.

  Attributes:
    root: absolute.
    clips_root: the data directory whose clips are used; None: its own.
  """

  root: str
  clips_root: str | None = None

  @property
  def job(self) -> str:
    """What was asked for; written first."""
    return f"{self.root}/job.json"

  @property
  def manifest(self) -> str:
    """What came of it; written last, so that its presence means all is there."""
    return f"{self.root}/manifest.json"

  @property
  def dead_letter(self) -> str:
    return f"{self.root}/dead_letter.jsonl"

  @property
  def report(self) -> str:
    """For people."""
    return f"{self.root}/report.md"

  @property
  def picture(self) -> str:
    return f"{self.root}/report.png"

  @property
  def songs(self) -> str:
    return f"{self.root}/songs"

  @property
  def clips(self) -> str:
    return f"{self.clips_root or self.root}/clips"

  @property
  def tokens(self) -> str:
    return f"{self.root}/tokens"

  @property
  def tokenizers(self) -> str:
    return f"{self.root}/tokenizers"

  @property
  def folders(self) -> tuple[str, ...]:
    """Those the job fills."""
    return self.songs, f"{self.root}/clips", self.tokenizers, self.tokens


def start_job(data_dir: DataDir, job: dict[str, Any]) -> None:
  """Records what is asked for, or checks that it is what was asked for before.

  Raises:
    InputError: the folder holds the results of other settings or songs, or somebody else's folders.
  """
  if not storage.exists(data_dir.job):
    if foreign := [folder for folder in data_dir.folders if storage.exists(folder)]:
      raise InputError(f"{foreign[0]} is in the way, and not of this job; give another --output_dir")
    storage.write_json(data_dir.job, job)
    return
  before = storage.read_json(data_dir.job)
  for name in job.keys() | before.keys():
    if before.get(name) != job.get(name):
      raise InputError(
        f"{data_dir.root} was made with {name}={before.get(name)!r}, now it is {job.get(name)!r}; "
        "give another --output_dir, or --fresh to make it again"
      )
