"""Makes the demo corpus: songs, their stems and their ground truth (`docs/demo_corpus.md`).

    python -m data_pipelines.synthesize --output_dir=/tmp/corpus

40 songs of 20 s take 6 to 15 s on two cores. The same flags give the same files. Running it again goes on
where it stopped, or says that all is there.
"""

from absl import flags

from singsong_jax import cli
from singsong_jax.audio.synthesis import CorpusSettings, write_corpus

_DEFAULTS = CorpusSettings()
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "folder for the corpus", required=True)
_NUM_SONGS = flags.DEFINE_integer("num_songs", _DEFAULTS.num_songs, "how many songs")
_SONG_SECONDS = flags.DEFINE_float("song_seconds", _DEFAULTS.song_seconds, "length of each song")
_SEED = flags.DEFINE_integer("seed", _DEFAULTS.seed, "another seed gives other songs")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "default: one per core", lower_bound=1)
_FRESH = flags.DEFINE_bool("fresh", False, "delete the corpus in --output_dir and start over")


def main(_) -> None:
  settings = CorpusSettings(num_songs=_NUM_SONGS.value, song_seconds=_SONG_SECONDS.value, seed=_SEED.value)
  made = write_corpus(
    _OUTPUT_DIR.value,
    settings,
    num_processes=_NUM_PROCESSES.value,
    fresh=_FRESH.value,
    show_progress=True,
  )
  print(
    f"{_OUTPUT_DIR.value}: {settings.num_songs} songs, " + (f"{made} made now" if made else "already there")
  )


if __name__ == "__main__":
  cli.run(main)
