import json
import pathlib

import pytest

from singsong_jax.errors import InputError
from singsong_jax.sweeps.grid import ROOT, load_sweep


def write(folder, text):
  path = folder / "sweep.toml"
  path.write_text(text)
  return str(path)


HEAD = 'model_dir = "runs"\ndata_dir = "data"\n[fixed]\ntotal_steps = 4\n'


def names(folder, text):
  return [cell.name for cell in load_sweep(write(folder, text)).cells]


def test_the_product_of_the_axes_in_the_files_order(tmp_path):
  text = HEAD + '[axes]\nfeatures = ["s_sa", "a_a"]\nseed = [0, 1]\n'
  assert names(tmp_path, text) == [
    "features=s_sa,seed=0",
    "features=s_sa,seed=1",
    "features=a_a,seed=0",
    "features=a_a,seed=1",
  ]


def test_a_cells_arguments_are_those_of_run_train(tmp_path):
  text = (
    HEAD
    + 'size = "tiny"\n"adafactor.decay_rate" = 0.7\nTHING = "@it()"\n[axes]\nvocals = ["clean"]\nseed = [3]\n'
  )
  (cell,) = load_sweep(
    write(tmp_path, text), model_dir=str(tmp_path), data_dirs={"": "gs://bucket/data"}
  ).cells
  assert cell.arguments == (
    "--gin.TRAIN_STEPS=4",
    "--size=tiny",
    "--gin.adafactor.decay_rate=0.7",
    "--gin.THING=@it()",
    "--vocals=clean",
    "--gin.SEED=3",
    "--data_dir=gs://bucket/data",
    f"--model_dir={tmp_path}/vocals=clean,seed=3",
  )
  assert (cell.total_steps, cell.model_dir) == (4, tmp_path / "vocals=clean,seed=3")


def test_extra_cells_take_single_values_for_granted_and_are_named_by_what_differs(tmp_path):
  text = HEAD + (
    '"EncoderDecoderConfig.position_scheme" = "sinusoidal"\n'
    '[axes]\nsize = ["base"]\nvocals = ["clean", "noisy"]\n'
    '[[exclude]]\nvocals = ["noisy"]\n'
    '[[cells]]\nvocals = "noisy"\nsize = "xl"\ntotal_steps = 9\n'
    '[[cells]]\nvocals = "noisy"\n"EncoderDecoderConfig.position_scheme" = "relative_bias"\n'
  )
  assert names(tmp_path, text) == [
    "size=base,vocals=clean",
    "size=xl,vocals=noisy,total_steps=9",
    "size=base,vocals=noisy,position_scheme=relative_bias",
  ]


def test_several_data_folders_are_an_axis(tmp_path):
  text = (
    'model_dir = "runs"\ndata_dir = { loud = "/loud", all = "/all" }\n'
    '[fixed]\ntotal_steps = 4\n[axes]\ndata = ["loud", "all"]\n'
  )
  cells = load_sweep(write(tmp_path, text), data_dirs={"all": "/new"}).cells
  assert [cell.arguments[-2] for cell in cells] == ["--data_dir=/loud", "--data_dir=/new"]
  assert [cell.name for cell in cells] == ["data=loud", "data=all"]
  with pytest.raises(InputError, match=r"no 'al'; did you mean all\?; write --data_dir=NAME=PATH"):
    load_sweep(write(tmp_path, text), data_dirs={"al": "/new"})
  with pytest.raises(InputError, match="data is not set"):
    load_sweep(
      write(tmp_path, text.replace("[axes]\ndata", "[axes]\nsize").replace('"loud", "all"', '"tiny"'))
    )


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("[axes", "is not TOML"),
    ("axis = 1\n" + HEAD, "'axis' is not part of a sweep; did you mean axes"),
    (
      HEAD + '[axes]\nfeature = ["s_sa"]',
      r"feature is not an axis.*did you mean features\?.*the axes are.*vocals",
    ),
    (HEAD + '[axes]\nfeatures = ["s_as"]', r"features=s_as: there is no such value; did you mean s_s"),
    ("launcher = './x'\n" + HEAD, "launcher must be a list of strings, got './x'"),
    (HEAD + "[exclude]\nvocals = 'clean'", r"exclude must be tables, each under \[\[…\]\], got {'vocals'"),
    ("fixed = 3\nmodel_dir = 'x'", "fixed must be a table, got 3"),
    ("model_dir = 'x'\ndata_dir = { a = 1 }", "data_dir must be a string or a table of strings"),
    (HEAD + "size = ['base']\n[axes]\nseed = [0]", r"size=\['base'\]: there is no such value"),
    (HEAD + '[axes]\nfeatures = "s_sa"', "axes.features must be a list"),
    (HEAD + "[axes]\nfeatures = []", "axes.features must be a list"),
    (HEAD + '[axes]\nfeatures = ["s_sa", "s_sa"]', "the cell features=s_sa occurs 2 times"),
    (HEAD + '[axes]\nvocals = ["clean"]\n[[cells]]\nvocals = "clean"', "vocals=clean occurs 2 times"),
    (HEAD + '[axes]\nvocals = ["clean"]\n[[exclude]]\nvocal = "clean"', "no axis vocal; did you mean vocals"),
    (
      HEAD + '[axes]\nvocals = ["clean"]\n[[exclude]]\nvocals = "clear"',
      "no value 'clear'; did you mean clean",
    ),
    (
      HEAD + '[axes]\nvocals = ["clean", "noisy"]\n' + '[[exclude]]\nvocals = "clean"\n' * 2,
      "leaves nothing out that another",
    ),
    (HEAD + '[axes]\nvocals = ["clean"]\n[[exclude]]\nvocals = "clean"', "has no cells"),
    (HEAD + '[axes]\nvocals = ["clean", "noisy"]\n[[cells]]\nsize = "xl"', "does not say vocals"),
    (HEAD + "MODEL_DIR = 'x'\n[axes]\nseed = [0]", "MODEL_DIR: write seed, total_steps or model_dir"),
    (HEAD + "[axes]\n'a.b' = ['x/y']", "a.b='x/y' cannot be part of a folder's name"),
    (HEAD.replace("4", '"4"') + "[axes]\nseed = [0]", "total_steps is '4'; a sweep needs a whole number"),
    (HEAD.replace('model_dir = "runs"', "") + "[axes]\nseed = [0]", "needs model_dir"),
    ('model_dir = "m"\n[fixed]\ntotal_steps = 4\n[axes]\nseed = [0]', "needs data_dir"),
    (HEAD, "has no cells"),
  ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, message):
  with pytest.raises(InputError, match=message):
    load_sweep(write(tmp_path, text))


def test_a_system_has_its_own_values(tmp_path):
  text = HEAD + 'system = "fine"\n[axes]\nsize = ["tiny", "xl"]\n'
  with pytest.raises(InputError, match=r"size=xl: there is no such value.*choose one of base, tiny"):
    load_sweep(write(tmp_path, text))


@pytest.mark.parametrize("path", sorted((ROOT / "gin/sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_sweeps_load(path):
  assert load_sweep(str(path)).cells


def test_table_1_has_the_papers_cells():
  """Seven featurizations, XL, NoFilt, RelPos (Tables 1 and 2)."""
  cells = {
    cell.name: " ".join(cell.arguments) for cell in load_sweep(str(ROOT / "gin/sweeps/table1.toml")).cells
  }
  clean = {f"size=base,vocals=clean,features={features}" for features in ("sa_sa", "s_sa")}
  noisy = {f"size=base,vocals=noisy,features={f}" for f in ("sa_sa", "s_sa", "a_a", "sa_a", "a_sa")}
  unfiltered = "size=base,vocals=noisy,features=sa_sa,data=unfiltered"
  positions = "size=base,vocals=noisy,features=sa_sa,position_scheme=relative_bias"
  assert set(cells) == clean | noisy | {"size=xl,vocals=noisy,features=s_sa", unfiltered, positions}
  assert f"--data_dir={pathlib.Path('data_unfiltered').absolute()} " in cells[unfiltered]
  assert "position_scheme='relative_bias'" in cells[positions]
  others = [text for name, text in cells.items() if name != positions]
  assert all("position_scheme='sinusoidal'" in text for text in others), json.dumps(others)
