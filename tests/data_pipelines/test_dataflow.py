"""The job on Google Cloud Dataflow: built and checked here, as far as that goes without the cloud."""

import pathlib
import re
import tomllib

import pytest

from data_pipelines import runner
from data_pipelines.inventory import Shard, make_shards
from data_pipelines.make_clips import MakeClips
from data_pipelines.make_tokens import MakeTokens
from data_pipelines.settings import DataDir, Settings
from data_pipelines.workers import Workers
from singsong_jax.errors import InputError

beam = pytest.importorskip("apache_beam")
pytest.importorskip("apache_beam.runners.dataflow.dataflow_runner")
pytest.importorskip("google.cloud.storage")

ROOT = pathlib.Path(runner.__file__).parent.parent
CONTAINER = ROOT / "data_pipelines" / "container"
IMAGE = "europe-docker.pkg.dev/project/singsong/prepare:1"
OPTIONS = [
  "--runner=DataflowRunner",
  "--project=project",
  "--region=europe-west4",
  "--temp_location=gs://bucket/tmp",
  "--staging_location=gs://bucket/staging",
  f"--sdk_container_image={IMAGE}",
  "--sdk_location=container",
  "--machine_type=n2-standard-8",
  "--max_num_workers=500",
  "--experiments=use_runner_v2",
  "--dry_run=True",
  "--no_auth",
]


def translate(monkeypatch, elements, dofn, expand=None):
  """The pipeline as Dataflow would be sent it."""
  monkeypatch.setenv("NO_GCE_CHECK", "true")
  pipeline = beam.Pipeline(options=beam.options.pipeline_options.PipelineOptions(OPTIONS))
  runner.build(pipeline, elements, dofn, expand)
  assert str(pipeline.run().state) == "DONE"
  return pipeline.runner.proto_pipeline


@pytest.mark.filterwarnings("ignore")  # of Google's libraries
@pytest.mark.parametrize("stage", ["clips", "tokens"])
def test_both_stages_translate_and_stay_small(monkeypatch, stage):
  """A million songs: Dataflow takes descriptions up to 10 MB, whatever their number."""
  settings = Settings(separator="mdx:gs://bucket/vocals.onnx").for_songs(1_000_000)
  data_dir = DataDir("gs://bucket/data")
  shards = [shard for split in make_shards(settings, data_dir).values() for shard in split]
  assert len(shards) == 3 * 5_000
  dofn = MakeClips(settings, data_dir, 16_000) if stage == "clips" else MakeTokens(settings, data_dir)
  proto = translate(monkeypatch, shards, dofn, Shard.songs if stage == "clips" else None)
  assert len(proto.SerializeToString()) < 5e6
  names = " ".join(transform.unique_name for transform in proto.components.transforms.values())
  assert type(dofn).__name__ in names and "Reshuffle" in names and ("Expand" in names) == (stage == "clips")
  images = {
    environment.payload.decode(errors="replace") for environment in proto.components.environments.values()
  }
  assert any(IMAGE in image for image in images)


@pytest.mark.filterwarnings("ignore")
def test_the_job_runs_through_its_own_runner(monkeypatch):
  monkeypatch.setenv("NO_GCE_CHECK", "true")
  dofn = MakeTokens(Settings(num_shards=1), DataDir("gs://bucket/data"))
  shards = [Shard(path="gs://bucket/a", songs_path="gs://bucket/b")]
  runner.run(shards, dofn, Workers(beam_options=tuple(OPTIONS)))
  without_region = tuple(option for option in OPTIONS if not option.startswith(("--project", "--temp")))
  with pytest.raises(InputError, match=r"--beam_options=.*(project|temp_location)"):
    runner.run(shards, dofn, Workers(beam_options=without_region))


def test_the_container_has_what_the_job_is_written_for():
  """The recipe's base image is the Beam of this project and its Python, and everything is pinned."""
  recipe = (CONTAINER / "Dockerfile").read_text()
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  (beam_version,) = re.findall(
    r"^apache-beam==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE
  )
  base = re.search(r"^FROM apache/beam_python(3\.\d+)_sdk:([\d.]+)$", recipe, re.MULTILINE)
  assert base, recipe
  assert base[2] == beam_version
  assert base[1] in ("3.11", "3.12") and project["requires-python"] == ">=3.11,<3.13"
  assert "--constraint constraints.txt" in recipe
  for extra in re.findall(r"\.\[([\w,]+)\]", recipe):
    assert set(extra.split(",")) <= project["optional-dependencies"].keys()
  for copied in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE):
    assert all((ROOT / name).exists() for name in copied.split()), copied
