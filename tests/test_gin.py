"""gin/: folder = axis, file = value. What holds for every combination of them."""

import ast
import collections
import importlib
import importlib.util
import itertools
import pathlib
import random
import re
import shlex
import warnings

import gin
import jax
import pytest

from singsong_jax import cli
from singsong_jax.errors import InputError
from singsong_jax.tokens.featurization import FEATURIZATIONS, NOISE_SIGMA
from singsong_jax.tokens.fine import FineLayout

ROOT = pathlib.Path(__file__).parent.parent
AXES = {  # those of each system
  "singsong": ("system", "codec", "semantics", "size", "vocals", "features", "hardware", "trainer", "run"),
  "fine": ("system", "codec", "size", "hardware", "trainer", "run"),
  "soundstream": ("system", "size", "hardware", "trainer", "run"),
  "w2v_bert": ("system", "size", "hardware", "trainer", "run"),
}
LANGUAGE_MODELS = ("singsong", "fine")
DEFAULTS = {"codec": "soundstream", "semantics": "w2v_bert", "size": "tiny", "vocals": "noisy"}
DEFAULTS |= {"features": "s_sa", "hardware": "cpu", "trainer": "native"}
MACROS = ["MODEL_DIR = 'model'", "DATA_DIR = 'data'"]
HAS_T5X = importlib.util.find_spec("t5x") is not None
TASKS = list(itertools.product(NOISE_SIGMA, FEATURIZATIONS))
SIZES = {  # parameters: with embedding and head; of a codec with averages, codebooks and judges
  ("singsong", "tiny"): 2_099_200,
  ("singsong", "mini"): 5_214_720,
  ("singsong", "small"): 49_306_624,
  ("singsong", "base"): 206_095_872,
  ("singsong", "large"): 727_840_768,
  ("singsong", "xl"): 2_739_138_560,
  ("fine", "tiny"): 3_474_368,
  ("fine", "base"): 226_520_576,
  ("soundstream", "tiny"): 3_949_938,
  ("soundstream", "small"): 27_394_502,
  ("soundstream", "base"): 44_772_390,
  ("w2v_bert", "tiny"): 1_585_712,
  ("w2v_bert", "base"): 51_623_104,
  ("w2v_bert", "xl"): 587_780_480,
}
for_each_language_model = pytest.mark.parametrize("system", LANGUAGE_MODELS)
for_each_system = pytest.mark.parametrize("system", AXES)
for_each_size = pytest.mark.parametrize(
  ("system", "size"),
  [pytest.param(*key, marks=[] if key[1] == "tiny" else pytest.mark.slow) for key in SIZES],
)


def files_of(system, axis):
  """The values a system can choose from: its own where it has any. `run_train.sh` does the same."""
  if axis == "system":
    return [ROOT / f"gin/system/{system}.gin"]
  own, shared = ROOT / "gin" / axis / system, ROOT / "gin" / axis
  return sorted((own if own.exists() else shared).glob("*.gin"))


def values(system, axis):
  return [path.stem for path in files_of(system, axis)]


def gin_files(system="singsong", **chosen):
  chosen = DEFAULTS | {"system": system, "run": "train"} | chosen
  return [str(path) for axis in AXES[system] for path in files_of(system, axis) if path.stem == chosen[axis]]


def training_files(system):
  return [path for axis in AXES[system] for path in files_of(system, axis)]


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
    gin.clear_config()
    if HAS_T5X:
      importlib.import_module("singsong_jax.training.t5x_adapter")
    for system in AXES:
      gin.clear_config()
      cli.parse_gin(gin_files(system), MACROS)


def test_the_axes_have_the_papers_values():
  assert values("singsong", "vocals") == sorted(NOISE_SIGMA)
  assert values("singsong", "features") == sorted(FEATURIZATIONS)
  for system in AXES:
    assert {(system, size) for size in values(system, "size")} == {key for key in SIZES if key[0] == system}
    assert values(system, "hardware") == ["cpu", "gpu", "tpu"]
    upstream = ["t5x", "t5x_eval", "t5x_infer"] if system in LANGUAGE_MODELS else []
    assert values(system, "trainer") == ["native", *upstream]
    assert {"train", "demo", "smoke"} <= set(values(system, "run"))


def test_every_file_belongs_to_a_system():
  of_data = set((ROOT / "gin/filter").glob("*.gin"))  # data_pipelines.prepare's alone
  every = {path for system in AXES for path in training_files(system)} | of_data
  assert set((ROOT / "gin").rglob("*.gin")) == every


def readable(path):
  """Whether this process can parse a gin file."""
  return path.parent.name != "trainer" or path.stem == "native" or HAS_T5X


@for_each_system
def test_order_does_not_matter(system):
  files, seen = gin_files(system), set()
  shuffle = random.Random(0)
  for order in [files, files[::-1], *(shuffle.sample(files, len(files)) for _ in range(8))]:
    gin.clear_config()
    cli.parse_gin(order, MACROS)
    seen.add(gin.config_str())
  assert len(seen) == 1


@pytest.mark.parametrize(
  ("system", "axis", "value"),
  [
    (system, axis, value)
    for system in AXES
    for axis in AXES[system]
    for value in values(system, axis)
    if axis != "trainer" or value == "native"
  ],
)
def test_every_value_parses(system, axis, value):
  cli.parse_gin(gin_files(**{"system": system, axis: value}), MACROS)


@for_each_system
def test_every_parameter_has_one_axis(system):
  owners = collections.defaultdict(set)
  for axis in AXES[system]:
    for path in filter(readable, files_of(system, axis)):
      for key in cli.bound_parameters(path):
        owners[key].add(axis)
  assert owners and not {key: axes for key, axes in owners.items() if len(axes) > 1}


@for_each_system
def test_the_values_of_an_axis_bind_the_same_parameters(system):
  """Else switching from one to another would leave a setting to chance. Trainers are different programs."""
  for axis in set(AXES[system]) - {"trainer"}:
    bound = {path.name: set(cli.bound_parameters(path)) for path in files_of(system, axis)}
    assert len(set(map(frozenset, bound.values()))) == 1, bound


@for_each_system
def test_every_macro_is_used_and_every_used_one_known(system):
  files = {*training_files(system), ROOT / "gin/trainer/native.gin"}  # which others include
  text = "\n".join(path.read_text() for path in files)
  used = set(re.findall(r"%(\w+)", text))
  defined = set(re.findall(r"^(\w+) *=", text, flags=re.MULTILINE))
  given = {"MODEL_DIR", "DATA_DIR", "OUTPUT_DIR", "CHECKPOINT_PATH"}
  if system in LANGUAGE_MODELS:
    assert defined <= used and used - defined == given
  else:  # hardware files also speak of what only transformers have
    hardware = "\n".join(path.read_text() for path in files_of(system, "hardware"))
    assert defined - used <= set(re.findall(r"^(\w+) *=", hardware, flags=re.MULTILINE))
    assert used - defined == given - {"OUTPUT_DIR", "CHECKPOINT_PATH"}


def test_an_unknown_binding_is_an_error():
  with pytest.raises(InputError, match=r"totl_steps.*did you mean total_steps"):
    cli.parse_gin(gin_files(), [*MACROS, "train.totl_steps = 1"])


def test_an_unset_macro_is_an_error():
  with pytest.raises(InputError, match=r"MODEL_DIR is used but not set; add --gin.MODEL_DIR"):
    cli.parse_gin(gin_files(), MACROS[1:])


@pytest.mark.parametrize(
  ("system", "run"), [(system, run) for system in AXES for run in values(system, "run")]
)
def test_a_run_promises_its_cost_and_result(system, run):
  (path,) = (path for path in files_of(system, "run") if path.stem == run)
  text = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
  for promise in ("Command:", "Hardware:", "Duration:", "Expect:"):
    assert re.search(rf"^# {promise} +\S+", text, flags=re.MULTILINE), promise
  command = re.search(r"Command: +(.+)", text)[1]
  for option in shlex.split(command, comments=True):
    axis, _, value = option.removeprefix("--").partition("=")
    if axis in DEFAULTS | {"system": "", "run": ""}:
      assert value in values(system, axis)


def macro(name):
  value = gin.query_parameter(f"{name}/gin.macro.value")
  return value.scoped_configurable_fn() if isinstance(value, gin.config.ConfigurableReference) else value


def trained_system():
  return macro("SYSTEM")


@for_each_size
def test_a_dry_run_traces_the_training_step(system, size, capsys):
  from singsong_jax.training import loop

  cli.parse_gin(gin_files(system, size=size), MACROS)
  loop.train(dry_run=True)
  assert f"{SIZES[system, size]:,} parameters" in capsys.readouterr().err


def loss_shape(system, params):
  return jax.eval_shape(lambda p, b: system.loss(p, b, None), params, system.batch_shapes(1))[0].shape


@for_each_size
def test_every_combination_builds(system, size):
  """The forward pass of each; its parameters are those of the size."""
  params = None
  for vocals, features in TASKS if system == "singsong" else [(None, None)]:
    gin.clear_config()
    cli.parse_gin(gin_files(system, size=size, vocals=vocals, features=features), MACROS)
    built = trained_system()
    params = params or jax.eval_shape(built.init, jax.random.key(0))
    assert loss_shape(built, params) == ()
    if system == "singsong":
      assert (built.vocals, built.features) == (vocals, features)


@pytest.mark.parametrize("system", ["soundstream", "w2v_bert"])
def test_audio_is_as_long_as_the_system_wants_it(system):
  cli.parse_gin(gin_files(system), MACROS)
  built = trained_system()
  assert built.batch_shapes(3)["waveform"].shape == (3, macro("EXAMPLES").segment_samples)
  assert built.network.sample_rate_hz == macro("EXAMPLES").sample_rate_hz


@for_each_language_model
def test_training_and_evaluation_read_what_the_system_is_made_for(system):
  cli.parse_gin(gin_files(system, vocals="clean", features="a_sa"), MACROS)
  built = trained_system()
  lengths = {name: array.shape[1] for name, array in built.batch_shapes(1).items()}
  sequences = {"encoder_input_tokens", "decoder_target_tokens"} & lengths.keys()
  assert sum(macro("EXAMPLES").lengths.values()) == sum(lengths[name] for name in sequences)


def test_the_defaults_are_the_papers_sizes():
  """With the default files of `codec` and `semantics`, and without any."""
  for system in ("singsong", "fine"):
    built = []
    for without in (set(), {"codec", "semantics"}):
      gin.clear_config()
      files = [file for file in gin_files(system) if pathlib.Path(file).parent.name not in without]
      cli.parse_gin(files, MACROS)
      built.append((trained_system(), macro("EXAMPLES")))
    assert built[0] == built[1]
  assert built[0][0].layout == FineLayout()


@pytest.mark.parametrize(
  ("codec", "lengths", "chunk"),
  [
    ("dac_16khz", {"inputs": 250, "targets": 250 + 500 * 4}, (150, 12, 4)),
    ("encodec_24khz", {"inputs": 250, "targets": 250 + 750 * 4}, (225, 8, 4)),
    ("snac_32khz", {"inputs": 240, "targets": 240 + 100 * 7}, (30, 15, 7)),
  ],
)
def test_one_file_swaps_the_codec(codec, lengths, chunk):
  """What is trained and what it is trained on follow, for both systems; so does `data_pipelines.prepare`."""
  cli.parse_gin(gin_files(codec=codec), MACROS)
  system = trained_system()
  assert macro("EXAMPLES").lengths == lengths
  assert (system.input_layout.length, system.target_layout.length) == tuple(lengths.values())
  assert system.network.vocab_size == system.vocabulary.size
  settings = gin.get_configurable("data_pipelines.Settings")()
  assert settings.codec.startswith(codec.partition("_")[0] + ":")
  assert settings.window_seconds == system.geometry.window_seconds
  gin.clear_config()
  cli.parse_gin(gin_files("fine", codec=codec), MACROS)
  layout = trained_system().layout
  assert (layout.frames, layout.num_levels, layout.num_coarse_levels) == chunk
  assert macro("EXAMPLES").layout == layout
  layout.check_fits(system.vocabulary, system.geometry)


@for_each_system
@pytest.mark.parametrize("hardware,dtype", [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")])
def test_hardware_chooses_the_type_of_activations(system, hardware, dtype):
  cli.parse_gin(gin_files(system, hardware=hardware), MACROS)
  network = trained_system().network
  assert network.dtype == dtype
  assert getattr(network, "remat", None) in (None, "none" if hardware == "cpu" else "minimal")


@pytest.mark.parametrize(
  ("system", "batch_size", "steps"), [("singsong", 512, 200_000), ("fine", 256, 1_000_000)]
)
def test_the_papers_training_run(system, batch_size, steps):
  cli.parse_gin(gin_files(system, run="train", size="base"), MACROS)
  expected = {"BATCH_SIZE": batch_size, "TRAIN_STEPS": steps, "WARMUP_STEPS": 10_000}
  assert {name: macro(name) for name in expected} == expected


@for_each_system
def test_periods_are_as_upstream_wants_them(system):
  """Multiples of each other."""
  for run in values(system, "run"):
    gin.clear_config()
    cli.parse_gin(gin_files(system, run=run), MACROS)
    short, long = sorted(macro(name) for name in ("EVAL_PERIOD", "CHECKPOINT_PERIOD"))
    assert long % short == 0, run


def test_the_trainer_knows_by_name_what_fine_tuning_and_tracking_need():
  named = ["initial = @InitialCheckpoint()", "optimizer = @freeze()", "tracker = @WeightsAndBiases()"]
  bindings = [f"train.{binding}" for binding in named]
  bindings += [
    "adafactor.schedule = @constant_rate()",
    "InitialCheckpoint.model_dir = 'm'",
    "Profile.num_steps = 5",
  ]
  cli.parse_gin(gin_files(), [*MACROS, *bindings])


def test_no_python_in_the_gin_folder():
  assert not list((ROOT / "gin").rglob("*.py"))


def test_values_are_literals_macros_or_references():
  """Nothing in gin/ computes."""
  for path in (ROOT / "gin").rglob("*.gin"):
    for line in path.read_text().splitlines():
      if line.startswith(("#", "import ", "include ")) or not line:
        continue
      value = line.partition("=")[2].strip()
      if not re.fullmatch(r"%\w+|@[\w./]+(\(\))?|\[(@[\w.]+(\(\))?(, )?)*\]", value):
        ast.literal_eval(value)


@pytest.mark.parametrize("path", sorted((ROOT / "gin/filter").glob("*.gin")), ids=lambda path: path.stem)
def test_filters_are_what_they_are_called(path):
  cli.parse_gin([str(path)])
  settings = gin.get_configurable("Settings")()
  assert settings.filter == path.stem == settings.filter_settings.rule
  assert (settings.min_instrumental_db, settings.max_vocal_excess_db, settings.min_vocals_db) == (-25, 5, -25)
