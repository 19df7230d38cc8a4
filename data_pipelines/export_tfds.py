"""A prepared data directory as a TensorFlow Datasets data set.

  python -m data_pipelines.export_tfds --data_dir=DATA --output_dir=TFDS
  >>> tfds.load("singsong", data_dir="TFDS", split="train")

The records are the same files, linked where the file system can.
"""

from absl import flags

from data_pipelines import tfds_folder
from singsong_jax import cli

_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder that `data_pipelines.prepare` wrote", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "where `tfds.load` will look (its data_dir)", required=True
)
_NAME = flags.DEFINE_string("name", "singsong", "what the data set is to be called")


def main(_) -> None:
  folder = tfds_folder.export(_DATA_DIR.value, _OUTPUT_DIR.value, _NAME.value)
  print(f"wrote {folder}: tfds.load({_NAME.value!r}, data_dir={_OUTPUT_DIR.value!r})")


if __name__ == "__main__":
  cli.run(main)
