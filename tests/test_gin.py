"""gin/: folder = axis, file = value. What holds for every combination of them."""

import ast
import collections
import itertools
import pathlib
import random
import re
import shlex
import warnings

import gin
import pytest

from singsong_jax import cli
from singsong_jax.errors import InputError
from singsong_jax.tokens.featurization import FEATURIZATIONS, NOISE_SIGMA

ROOT = pathlib.Path(__file__).parent.parent
TRAINING_AXES = ("system", "size", "vocals", "features", "hardware", "trainer", "run")
MACROS = ["MODEL_DIR = 'model'", "DATA_DIR = 'data'"]
TASKS = list(itertools.product(NOISE_SIGMA, FEATURIZATIONS))
SIZES = {  # parameters, with embedding and head for 5122 ids
  "tiny": 2_099_200,
  "small": 49_306_624,
  "base": 206_095_872,
  "large": 727_840_768,
  "xl": 2_739_138_560,
}


def values(axis):
  return sorted(path.stem for path in (ROOT / "gin" / axis).glob("*.gin"))


def gin_files(**chosen):
  defaults = {
    "system": "singsong",
    "size": "tiny",
    "vocals": "noisy",
    "features": "s_sa",
    "hardware": "cpu",
    "trainer": "native",
    "run": "train",
  }
  return [f"gin/{axis}/{value}.gin" for axis, value in (defaults | chosen).items()]


def training_files():
  return [path for axis in TRAINING_AXES for path in sorted((ROOT / "gin" / axis).glob("*.gin"))]


@pytest.fixture(autouse=True)
def _parsed_afresh():
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture(scope="module", autouse=True)
def _imports():
  """The modules the files import, among them TensorFlow, whose import warns."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cli.parse_gin(gin_files(), MACROS)


def test_the_axes_have_the_papers_values():
  assert values("size") == sorted(SIZES)
  assert values("vocals") == sorted(NOISE_SIGMA)
  assert values("features") == sorted(FEATURIZATIONS)
  assert {"cpu", "gpu", "tpu"} == set(values("hardware")) and {"train", "demo", "smoke"} <= set(values("run"))


def test_order_does_not_matter():
  files, seen = gin_files(), set()
  shuffle = random.Random(0)
  for order in [files, files[::-1], *(shuffle.sample(files, len(files)) for _ in range(8))]:
    gin.clear_config()
    cli.parse_gin(order, MACROS)
    seen.add(gin.config_str())
  assert len(seen) == 1


@pytest.mark.parametrize("axis,value", [(axis, value) for axis in TRAINING_AXES for value in values(axis)])
def test_every_value_parses(axis, value):
  cli.parse_gin(gin_files(**{axis: value}), MACROS)


def test_every_parameter_has_one_axis():
  owners = collections.defaultdict(set)
  for path in training_files():
    for key in cli.bound_parameters(path):
      owners[key].add(path.parent.name)
  assert owners and not {key: axes for key, axes in owners.items() if len(axes) > 1}


def test_the_values_of_an_axis_bind_the_same_parameters():
  """Else switching from one to another would leave a setting to chance."""
  for axis in TRAINING_AXES:
    bound = {path.name: set(cli.bound_parameters(path)) for path in (ROOT / "gin" / axis).glob("*.gin")}
    assert len(set(map(frozenset, bound.values()))) == 1, bound


def test_every_macro_is_used_and_every_used_one_known():
  text = "\n".join(path.read_text() for path in training_files())
  used = set(re.findall(r"%(\w+)", text))
  defined = set(re.findall(r"^(\w+) *=", text, flags=re.MULTILINE))
  assert defined <= used and used - defined == {"MODEL_DIR", "DATA_DIR"}


def test_an_unknown_binding_is_an_error():
  with pytest.raises(InputError, match=r"totl_steps.*did you mean total_steps"):
    cli.parse_gin(gin_files(), [*MACROS, "train.totl_steps = 1"])


def test_an_unset_macro_is_an_error():
  with pytest.raises(InputError, match=r"MODEL_DIR is used but not set; add --gin.MODEL_DIR"):
    cli.parse_gin(gin_files(), MACROS[1:])


@pytest.mark.parametrize("run", values("run"))
def test_a_run_promises_its_cost_and_result(run):
  lines = (ROOT / f"gin/run/{run}.gin").read_text().splitlines()
  text = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
  for promise in ("Command:", "Hardware:", "Duration:", "Expect:"):
    assert re.search(rf"^# {promise} +\S+", text, flags=re.MULTILINE), promise
  command = re.search(r"Command: +(.+)", text)[1]
  for option in shlex.split(command, comments=True):
    axis, _, value = option.removeprefix("--").partition("=")
    if axis in TRAINING_AXES:
      assert value in values(axis)


def trained_system():
  return gin.query_parameter("train.system").scoped_configurable_fn()


def slowly(*sizes):
  return [pytest.param(size, marks=pytest.mark.slow) for size in sizes]


@pytest.mark.parametrize("size", ["tiny", *slowly("small", "base", "large", "xl")])
def test_a_dry_run_traces_the_training_step(size, capsys):
  from singsong_jax.training import loop

  cli.parse_gin(gin_files(size=size), MACROS)
  loop.train(dry_run=True)
  assert f"{SIZES[size]:,} parameters" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["tiny", *slowly("small", "base", "large", "xl")])
def test_every_combination_builds(size):
  """The forward pass of each; its parameters are those of the size."""
  import jax

  params = None
  for vocals, features in TASKS:
    gin.clear_config()
    cli.parse_gin(gin_files(size=size, vocals=vocals, features=features), MACROS)
    system = trained_system()
    assert (system.vocals, system.features) == (vocals, features)
    params = params or jax.eval_shape(system.init, jax.random.key(0))
    loss, _ = jax.eval_shape(lambda p, b, s=system: s.loss(p, b, None), params, system.batch_shapes(1))
    assert loss.shape == ()


@pytest.mark.parametrize("hardware,dtype", [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")])
def test_hardware_chooses_the_type_of_activations(hardware, dtype):
  cli.parse_gin(gin_files(hardware=hardware), MACROS)
  assert trained_system().network.dtype == dtype


def test_the_papers_training_run():
  cli.parse_gin(gin_files(run="train", size="base"), MACROS)
  expected = {"BATCH_SIZE": 512, "train.total_steps": 200_000, "rsqrt_decay.warmup_steps": 10_000}
  found = {"BATCH_SIZE": gin.query_parameter("BATCH_SIZE/gin.macro.value")}
  found |= {name: gin.query_parameter(name) for name in expected if "." in name}
  assert found == expected


def test_no_python_in_the_gin_folder():
  assert not list((ROOT / "gin").rglob("*.py"))


def test_values_are_literals_macros_or_references():
  """Nothing in gin/ computes."""
  for path in training_files():
    for line in path.read_text().splitlines():
      if line.startswith(("#", "import ")) or not line:
        continue
      value = line.partition("=")[2].strip()
      if not re.fullmatch(r"%\w+|@[\w.]+(\(\))?|\[(@[\w.]+\(\)(, )?)+\]", value):
        ast.literal_eval(value)
