"""Where published weights lie: folders, the hub's names, what is missing."""

import json

import pytest

from singsong_jax.audio import public_weights
from singsong_jax.audio.public_weights import SAFETENSORS, TORCH_WEIGHTS, PublicWeights, import_extra, locate
from singsong_jax.errors import InputError

CONFIGS = ["config.json"]


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "config.json").write_text('{"model_type": "toy"}')
  (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
  return tmp_path


def test_a_folder_is_read_where_it_is(folder):
  weights = locate(folder, CONFIGS, TORCH_WEIGHTS)
  assert (weights.source, weights.revision, weights.folder) == (str(folder), None, folder)
  assert weights.names == ("config.json", "pytorch_model.bin")
  (folder / "model.safetensors").write_bytes(b"weights")
  assert locate(folder, CONFIGS, TORCH_WEIGHTS).names == ("config.json", "model.safetensors")


def test_a_relative_folder_stays_found_from_elsewhere(folder, monkeypatch):
  monkeypatch.chdir(folder.parent)
  assert locate(f"./{folder.name}", CONFIGS, TORCH_WEIGHTS).source == str(folder)


def test_the_hash_is_of_names_and_content_not_of_the_place(folder, tmp_path_factory):
  before = locate(folder, CONFIGS, TORCH_WEIGHTS).sha256
  other = tmp_path_factory.mktemp("other")
  for path in folder.iterdir():
    (other / path.name).write_bytes(path.read_bytes())
  assert locate(other, CONFIGS, TORCH_WEIGHTS).sha256 == before
  (other / "config.json").write_text('{"model_type": "tox"}')
  assert locate(other, CONFIGS, TORCH_WEIGHTS).sha256 != before


def test_shards_belong_to_the_weights(folder):
  (folder / "pytorch_model.bin").unlink()
  for shard in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
    (folder / shard).write_bytes(b"half")
  index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))
  weights = locate(folder, CONFIGS, TORCH_WEIGHTS)
  before = weights.sha256
  (folder / "model-00002-of-00002.safetensors").write_bytes(b"HALF")
  assert locate(folder, CONFIGS, TORCH_WEIGHTS).sha256 != before


class Hub:
  """In place of huggingface_hub: holds one revision of one model in a folder."""

  def __init__(self, folder):
    self.folder, self.asked = folder, []

  def snapshot_download(self, name, revision, allow_patterns):
    self.asked.append((name, revision, allow_patterns))
    if name != "owner/model":
      raise FileNotFoundError(f"404 for {name}")
    return str(self.folder)


def test_a_name_on_the_hub(folder, monkeypatch):
  hub = Hub(folder)
  monkeypatch.setattr(public_weights, "import_extra", lambda *_: hub)
  weights = locate("owner/model@v2", CONFIGS, TORCH_WEIGHTS)
  assert (weights.source, weights.revision, weights.folder) == ("owner/model", folder.name, folder)
  assert hub.asked[0] == ("owner/model", "v2", ["config.json", "model.safetensors"])
  assert "pytorch_model.bin" in hub.asked[-1][2]
  with pytest.raises(InputError, match="cannot get owner/none from the hub: 404 for owner/none; download it"):
    locate("owner/none", CONFIGS, TORCH_WEIGHTS)


def test_a_folder_never_asks_the_hub(folder, monkeypatch):
  monkeypatch.setattr(public_weights, "import_extra", lambda *_: pytest.fail("asked the hub"))
  monkeypatch.chdir(folder.parent)
  (folder.parent / "owner").mkdir(exist_ok=True)
  (folder.parent / "owner" / "model").symlink_to(folder)
  assert locate("owner/model", CONFIGS, TORCH_WEIGHTS).revision is None
  for absent in ("/no/such/folder", "./owner/none", "none"):
    with pytest.raises(InputError, match=r"the folder of weights /\S+ does not exist"):
      locate(absent, CONFIGS, TORCH_WEIGHTS)


def test_missing_files(folder):
  with pytest.raises(InputError, match=r"lacks preprocessor.json; expected the folder of a published model"):
    locate(folder, ["preprocessor.json"], TORCH_WEIGHTS)
  with pytest.raises(InputError, match=r"has none of model.safetensors; expected"):
    locate(folder, CONFIGS, SAFETENSORS)


def test_another_type_of_model(folder):
  weights = PublicWeights(source=str(folder), revision=None, folder=folder, names=("config.json",))
  assert weights.check_class(["toy"]) == {"model_type": "toy"}
  with pytest.raises(
    InputError, match=r"config.json is of a model of type 'toy'; expected 'dac' or 'encodec'"
  ):
    weights.check_class(["dac", "encodec"])
  (folder / "config.json").write_text("[]")
  with pytest.raises(InputError, match=r"config.json holds a list; expected a JSON object"):
    weights.check_class(["toy"])


def test_a_missing_package_names_its_extra():
  with pytest.raises(
    InputError, match=r"the codec x needs the package no_such_module .*singsong_jax\[torch\]'"
  ):
    import_extra("no_such_module", "torch", "the codec x")
