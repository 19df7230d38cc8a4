"""The command line: t5x's gin flags, and every mistake as one line with status 2."""

import os
import pathlib
import subprocess
import sys
import textwrap

import gin
import pytest

from singsong_jax import cli
from singsong_jax.errors import InputError

ROOT = pathlib.Path(cli.__file__).parent.parent


@gin.configurable
def cli_example(*, number=0, text=""):
  return number, text


@gin.configurable
def cli_other(*, text=""):
  return text


@pytest.fixture(autouse=True)
def _no_bindings():
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture
def write(tmp_path):
  def write(name, text):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)

  return write


@pytest.mark.parametrize(
  "flag,binding",
  [
    ("--gin.train.total_steps=10", "train.total_steps = 10"),
    ("--gin.LENGTHS={'a': 1}", "LENGTHS = {'a': 1}"),
    ("--gin.NAME='quoted'", "NAME = 'quoted'"),
    ('--gin.NAME="it\'s"', 'NAME = "it\'s"'),
    ("--gin.MODEL_DIR=/tmp/run-1", "MODEL_DIR = '/tmp/run-1'"),
    ("--gin.MODEL_DIR=gs://bucket/run", "MODEL_DIR = 'gs://bucket/run'"),
    ("--gin.MODEL_DIR=.", "MODEL_DIR = '.'"),
    ("--gin.X=None", "X = None"),
    ("--gin.X=1e-3", "X = 1e-3"),
    ("--gin.f.x=@g()", "f.x = @g()"),
    ("--gin.f.x=%SEED", "f.x = %SEED"),
  ],
)
def test_gin_flags_become_bindings(flag, binding):
  assert cli.rewrite_gin_flags(["prog", flag, "--other=1"]) == [
    "prog",
    f"--gin_bindings={binding}",
    "--other=1",
  ]


@pytest.mark.parametrize("flag,message", [
  ("--gin.X=10k", "'10k' is not a gin value"),
  ("--gin.X=a b", "needs its own quotes"),
  ("--gin.X=[1, 2", "not a gin value"),
  ("--gin.X=", "not a gin value"),
  ("--gin.X", "expected --gin.NAME=VALUE"),
])  # fmt: skip
def test_values_gin_cannot_read(flag, message):
  with pytest.raises(InputError, match=message):
    cli.rewrite_gin_flags([flag])


def test_files_in_any_order_then_bindings(write):
  files = [
    write("a.gin", "cli_example.number = %NUMBER\n"),
    write("b.gin", "NUMBER = 1\ncli_example.text = 'b'\n"),
  ]
  results = []
  for order in (files, files[::-1]):
    gin.clear_config()
    cli.parse_gin(order, ["NUMBER = 2"])
    results.append((cli_example(), gin.config_str()))
  assert results[0] == results[1] and results[0][0] == (2, "b")


def test_imports_of_a_later_file_serve_an_earlier_one(write, tmp_path, monkeypatch):
  (tmp_path / "late_module.py").write_text("import gin\n@gin.configurable\ndef late_thing(x=1): return x\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  cli.parse_gin([write("a.gin", "late_thing.x = 2\n"), write("b.gin", "import late_module\n")])
  assert gin.query_parameter("late_thing.x") == 2


def test_relative_files_are_found_here_in_search_paths_and_in_the_repository(write, tmp_path, monkeypatch):
  (tmp_path / "here").mkdir()
  write("here/a.gin", "cli_example.number = 1\n")
  write("b.gin", "cli_example.text = 'b'\n")
  monkeypatch.chdir(tmp_path / "here")
  cli.parse_gin(["a.gin", "b.gin", "gin/vocals/noisy.gin"], search_paths=[str(tmp_path)])
  assert cli_example() == (1, "b")


@pytest.mark.parametrize("text,bindings,message", [
  ("cli_exampel.number = 1", [], "No configurable matching 'cli_exampel'.*did you mean cli_example?"),
  ("cli_example.numbr = 1", [], "doesn't have a parameter named 'numbr'.*did you mean number?"),
  ("cli_example.text = @cli_othr()", [], "@cli_othr.*did you mean cli_other?"),
  ("cli_example.number = %NUMBER", [], "the macro NUMBER is used but not set; add --gin.NUMBER="),
  ("cli_example.number = %SEED\nSEED = 1", ["SED = 2"], "nothing uses the macro SED; did you mean SEED?"),
  ("cli_example.number = = 1", [], "bad.gin"),
  ("import no_such_module_here", [], "No module named 'no_such_module_here'"),
  ("", ["cli_example.numbr = 1"], "did you mean number?"),
])  # fmt: skip
def test_mistakes_name_the_nearest_thing(write, text, bindings, message):
  with pytest.raises(InputError, match=message) as caught:
    cli.parse_gin([write("bad.gin", text + "\n")], bindings)
  assert "\n" not in str(caught.value)


def test_two_owners_of_a_parameter(write):
  files = [write("a.gin", "cli_example.number = 1\n"), write("b.gin", f"{__name__}.cli_example.number = 2\n")]
  with pytest.raises(InputError, match=r"cli_example.number is bound by .*a.gin and again by .*b.gin"):
    cli.parse_gin(files)


def test_a_missing_file_suggests_one():
  with pytest.raises(
    InputError, match=r"no gin file gin/vocals/noisey.gin; did you mean gin/vocals/noisy.gin\?"
  ):
    cli.parse_gin(["gin/vocals/noisey.gin"])


PROGRAM = """
  import gin
  from absl import flags
  from singsong_jax import cli
  from singsong_jax.errors import InputError

  KIND = flags.DEFINE_string("kind", "", "what to raise")

  @gin.configurable
  def work(*, needed): pass

  def main(_):
    if KIND.value == "input": raise InputError("the file\\nis bad")
    if KIND.value == "full": raise OSError(28, "No space left on device", "/x")
    if KIND.value == "interrupt": raise KeyboardInterrupt
    if KIND.value == "bug": raise RuntimeError("bug")
    if KIND.value == "unbound": work()

  if __name__ == "__main__":
    cli.run(main, uses_gin=USES_GIN)
"""


@pytest.fixture(scope="module")
def call(tmp_path_factory):
  folder = tmp_path_factory.mktemp("program")

  def call(*arguments, uses_gin=True, **environment):
    path = folder / "program.py"
    path.write_text(textwrap.dedent(PROGRAM).replace("USES_GIN", str(uses_gin)))
    result = subprocess.run(
      [sys.executable, str(path), *arguments],
      env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
      capture_output=True,
      text=True,
    )
    return result.returncode, result.stdout, result.stderr

  return call


@pytest.mark.parametrize("arguments,status,error", [
  ([], 0, ""),
  (["--kind=input"], 2, "error: the file is bad\n"),
  (["--kind=full"], 2, "error: [Errno 28] No space left on device: '/x'\n"),
  (["--kind=interrupt"], 130, "interrupted\n"),
  (["--kinds=input"], 2, "error: Unknown command line flag 'kinds'. Did you mean: kind ?\n"),
  (["kind=input"], 2, "error: unexpected argument 'kind=input'; flags are written --name=value\n"),
  (["--gin.X=10k"], 2, "error: --gin.X=10k: '10k' is not a gin value; a string needs its own quotes, "
   "--gin.X=\"'10k'\"\n"),
  (["--kind=unbound"], 2, "error: work() missing 1 required keyword-only argument: 'needed'; is a --gin_file "
   "missing?\n"),
  (["--kind=unbound", "--gin.work.needed=1"], 0, ""),
])  # fmt: skip
def test_statuses_and_messages(call, arguments, status, error):
  assert call(*arguments) == (status, "", error)


def test_a_bug_keeps_its_traceback(call):
  status, _, errors = call("--kind=bug")
  assert status == 1 and "Traceback" in errors and "RuntimeError: bug" in errors


@pytest.mark.parametrize("arguments,environment", [(["--traceback"], {}), ([], {"SINGSONG_TRACEBACK": "1"})])
def test_tracebacks_on_request(call, arguments, environment):
  status, _, errors = call("--kind=input", *arguments, **environment)
  assert status == 1 and "Traceback" in errors


def test_gin_flags_where_gin_is_not_used(call):
  assert call("--gin.X=1", uses_gin=False)[0] == 2
  assert call("--kind=", uses_gin=False)[0] == 0


def test_help_lists_the_gin_flags(call):
  _, output, _ = call("--help")
  assert "--gin_file" in output and "--kind" in output and "traceback" in output
