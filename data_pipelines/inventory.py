"""Which songs there are, on disk: `songs/<split>-SSSSS-of-NNNNN.jsonl` lists those of one shard of `tokens/`.

Written before any work, it tells the workers of both Beam stages what to do: a million songs do not fit into
the description of a job. A later job that takes the clips over (`--clips_from`) learns from it what they are.
"""

import dataclasses
import json
from collections.abc import Iterable

from data_pipelines.settings import DataDir, Settings
from data_pipelines.sources.base import Song
from singsong_jax import storage
from singsong_jax.errors import InputError
from tasks import schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """One file of `tokens/`.

  Attributes:
    path: of the file.
    songs_path: lists the songs, sorted by id, whose clips belong into it.
  """

  path: str
  songs_path: str

  @property
  def report_path(self) -> str:
    """Where it says what became of it; written after the file."""
    folder, _, name = self.path.rpartition("/")
    return f"{folder}/reports/{name}.json"

  def songs(self) -> list[Song]:
    """Its songs."""
    return read_songs(self.songs_path)


def make_shards(settings: Settings, data_dir: DataDir) -> dict[str, list[Shard]]:
  """The shards of every split; some may be without songs."""
  return {
    split: [
      Shard(
        path=path, songs_path=f"{data_dir.songs}/{path.rpartition('/')[2].replace('.tfrecord', '')}.jsonl"
      )
      for path in schema.shard_paths(data_dir.root, split, settings.num_shards)
    ]
    for split in schema.SPLITS
  }


def write_inventory(settings: Settings, data_dir: DataDir, songs: Iterable[Song]) -> None:
  """Writes the lists of songs that are not there yet."""
  shards = make_shards(settings, data_dir)
  members: dict[Shard, list[Song]] = {shard: [] for split in shards.values() for shard in split}
  for song in songs:
    members[shards[settings.split(song)][song.shard(settings.num_shards)]].append(song)
  for shard, listed in members.items():
    if not storage.exists(shard.songs_path):
      lines = (json.dumps(dataclasses.asdict(song)) for song in listed)
      storage.write_text(shard.songs_path, "".join(f"{line}\n" for line in lines))


def read_songs(path: str) -> list[Song]:
  """The songs of a list. Raises InputError where it is missing or damaged."""
  try:
    rows = [json.loads(line) for line in storage.read_lines(path)]
    return [
      Song(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
      for row in rows
    ]
  except (TypeError, AttributeError, json.JSONDecodeError) as error:
    raise InputError(f"{path} is not a list of songs: {error}") from error


def read_inventory(data_dir: DataDir) -> list[Song]:
  """All songs of a data directory, sorted by id. Raises InputError where there is no list of them."""
  paths = [f"{data_dir.songs}/{name}" for name in storage.names(data_dir.songs) if name.endswith(".jsonl")]
  songs = [song for path in paths if not path.rpartition("/")[2].startswith(".") for song in read_songs(path)]
  if not songs:
    raise InputError(f"{data_dir.root} is no data directory: there is no list of songs in {data_dir.songs}")
  return sorted(songs, key=lambda song: song.id)
