"""What every main shares: t5x's gin flags, and errors as one line with exit status 2.

def main(_) -> None: …

if __name__ == "__main__":
  cli.run(main)                   # flags only
  cli.run(main, uses_gin=True)    # --gin_file, --gin_bindings, --gin.NAME=VALUE, --gin_search_paths
  cli.run(main, takes_files=1)    # so many arguments that are no flags: argv[1] …
"""

import ast
import contextlib
import functools
import inspect
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence

import gin
from absl import app, flags, logging
from gin import config_parser

from singsong_jax.errors import InputError, did_you_mean

INPUT_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130  # 128 + SIGINT, as shells report it
ROOT = pathlib.Path(__file__).parent.parent

_GIN_FILE = flags.DEFINE_multi_string("gin_file", [], "gin file; may be repeated, in any order")
_GIN_BINDINGS = flags.DEFINE_multi_string(
  "gin_bindings", [], "gin binding, applied after the files; --gin.NAME=VALUE is the same"
)
_GIN_SEARCH_PATHS = flags.DEFINE_list("gin_search_paths", [], "folders in which gin files are looked up")
_TRACEBACK = flags.DEFINE_bool(
  "traceback", os.environ.get("SINGSONG_TRACEBACK") == "1", "show where an input error was raised"
)
_GIN_FLAGS = (_GIN_FILE, _GIN_BINDINGS, _GIN_SEARCH_PATHS)

# How Python and gin say that no file binds a parameter which has no default.
_UNBOUND = re.compile(r"missing \d+ required .*In call to configurable", flags=re.DOTALL)

# A word that is plainly meant as a string: --gin.MODEL_DIR=/tmp/run needs no quotes inside quotes.
_BARE_WORD = re.compile(r"[A-Za-z_./~][\w./~:+-]*")


def run(main: Callable[[list[str]], None], *, uses_gin: bool = False, takes_files: int = 0) -> None:
  """Parses the flags (and gin), calls `main(argv)` and exits.

  Status 0 on success, 2 with `error: …` on bad input or an unusable file system, 130 after Ctrl-C.
  Anything else is a bug and keeps its traceback.
  """
  app.run(
    functools.partial(_run, main, uses_gin, takes_files),
    flags_parser=functools.partial(_parse_flags, uses_gin),
  )


def _run(main: Callable, uses_gin: bool, takes_files: int, argv: list[str]) -> None:
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.FATAL)  # Orbax logs screenfuls, and raises what matters besides
  try:
    if len(argv) <= takes_files:
      raise InputError("an argument is missing; --help shows how to call this command")
    if unexpected := argv[1 + takes_files :]:
      raise InputError(f"unexpected argument {unexpected[0]!r}; flags are written --name=value")
    if uses_gin:
      parse_gin(_GIN_FILE.value, _GIN_BINDINGS.value, _GIN_SEARCH_PATHS.value)
    main(argv)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED_STATUS)
  except (InputError, OSError, TypeError) as error:
    if _TRACEBACK.value or (isinstance(error, TypeError) and not _UNBOUND.search(str(error))):
      raise
    _fail(error, "; is a --gin_file missing?" if isinstance(error, TypeError) else "")


def _parse_flags(uses_gin: bool, argv: Sequence[str]) -> list[str]:
  key_flags = (*_GIN_FLAGS, _TRACEBACK) if uses_gin else (_TRACEBACK,)
  for holder in key_flags:  # so that --help shows them
    flags.FLAGS.register_key_flag_for_module(argv[0], flags.FLAGS[holder.name])
  try:
    rest = flags.FLAGS(rewrite_gin_flags(argv))
    if not uses_gin and any(holder.value for holder in _GIN_FLAGS):
      raise InputError("this command takes no gin flags; --help lists what it takes")
    return rest
  except (flags.Error, InputError) as error:
    _fail(error)


def _fail(error: Exception, hint: str = "") -> None:
  lines = [line.strip() for line in str(error).splitlines()]
  lines = [line for line in lines if not line.startswith("In call to configurable")]  # gin adds them
  print("error: " + " ".join(lines) + hint, file=sys.stderr)
  sys.exit(INPUT_ERROR_STATUS)


def rewrite_gin_flags(argv: Sequence[str]) -> list[str]:
  """`--gin.NAME=VALUE` to `--gin_bindings=NAME = VALUE`, as t5x does; quotes a VALUE that is a bare word.

  Raises:
    InputError: no `=`, or a VALUE that gin cannot read.
  """
  return [_rewrite_gin_flag(arg) if arg.startswith("--gin.") else arg for arg in argv]


def _rewrite_gin_flag(arg: str) -> str:
  name, equals, value = arg.removeprefix("--gin.").partition("=")
  if not equals:
    raise InputError(f"{arg}: expected --gin.NAME=VALUE")
  return f"--gin_bindings={name} = {_gin_value(name, value)}"


def _gin_value(name: str, value: str) -> str:
  if re.search(r"[@%]", value):  # a reference, checked when the modules it may name are imported
    return value
  try:
    ast.literal_eval(value)
    return value
  except (ValueError, SyntaxError):
    if _BARE_WORD.fullmatch(value):
      return repr(value)
  raise InputError(
    f"--gin.{name}={value}: {value!r} is not a gin value; a string needs its own quotes, "
    f"--gin.{name}=\"'{value}'\""
  ) from None


def parse_gin(
  gin_files: Sequence[str] = (), bindings: Sequence[str] = (), search_paths: Sequence[str] = ()
) -> None:
  """Parses all files, then `bindings` (which win), and locks the configuration.

  Imports of all files come first and no two files may bind the same parameter, so the order of the
  files cannot matter.

  Args:
    gin_files: paths, relative to the current folder, to one of `search_paths` or to this repository.
    bindings: `"NAME = VALUE"` strings.
    search_paths: more folders to look in; also for `include` statements.

  Raises:
    InputError: a file that is missing or not gin, an unknown module, configurable or parameter, a
      parameter bound by two files, or a macro that is used and not set, or set by `bindings` and not used.
  """
  folders = ["", *search_paths, str(ROOT)]
  paths = [_find(name, folders) for name in gin_files]
  for folder in folders[1:]:
    gin.add_config_file_search_path(folder)
  with _gin_errors():
    for path in paths:
      gin.parse_config(_import_lines(path))
    _check_owners(paths)
    gin.parse_config_files_and_bindings(paths, bindings)
  _check_macros_used(bindings)


def _find(name: str, folders: Sequence[str]) -> str:
  for folder in folders:
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      return path
  known = [str(path.relative_to(ROOT)) for path in ROOT.glob("gin/**/*.gin")]
  raise InputError(f"there is no gin file {name}{did_you_mean(name, known)}")


def _import_lines(path: str) -> list[str]:
  text = pathlib.Path(path).read_text(encoding="utf-8")
  return re.findall(r"^(?:import|from) .+$", text, flags=re.MULTILINE)


def _check_owners(paths: Sequence[str]) -> None:
  owners: dict[tuple, str] = {}
  for path in paths:
    for key in bound_parameters(path):
      if key in owners:
        name = ".".join(key[1:]) if key[2] else key[1]
        raise InputError(
          f"{name} is bound by {owners[key]} and again by {path}; bind it once, or override it with "
          f"--gin.{name}=…"
        )
      owners[key] = path


def bound_parameters(path: str | os.PathLike) -> Iterator[tuple[str, str, str]]:
  """`(scope, configurable, parameter)` of every binding in a gin file; parameter is "" for a macro.

  The modules the file imports must have been imported.
  """
  with open(path, encoding="utf-8") as lines:
    for statement in config_parser.ConfigParser(lines, gin.config.ParserDelegate()):
      if isinstance(statement, config_parser.BindingStatement):
        yield statement.scope, statement.selector.split(".")[-1], statement.arg_name or ""


def _check_macros_used(bindings: Sequence[str]) -> None:
  """A misspelt `--gin.MODLE_DIR` would define a macro that nothing reads."""
  used = set(re.findall(r"%(\w+)", gin.config_str()))
  for binding in bindings:
    name = binding.partition("=")[0].strip()
    if re.fullmatch(r"\w+", name) and name not in used:
      raise InputError(f"--gin.{name}: nothing uses the macro {name}{did_you_mean(name, used)}")


@contextlib.contextmanager
def _gin_errors() -> Iterator[None]:
  try:
    yield
  except InputError:
    raise
  except (ValueError, SyntaxError, ImportError, OSError) as error:
    raise InputError(_explain(str(error))) from error


def _explain(message: str) -> str:
  """gin's message, with the nearest known name where a name is unknown."""
  if match := re.search(r"No bindings specified for '([\w/]+)/gin\.macro'", message):
    return f"the macro {match[1]} is used but not set; add --gin.{match[1]}=…"
  message = " ".join(message.split())
  if match := re.search(r"No configurable matching (?:reference )?'@?([\w./]+)", message):
    name = match[1].split("/")[-1]
    return f"gin: {message}{did_you_mean(name, _configurables())}"
  if match := re.search(r"Configurable '([\w./]+)' doesn't have a parameter named '(\w+)'", message):
    return f"gin: {message}{did_you_mean(match[2], _parameters(match[1]))}"
  return f"gin: {message}"


def _configurables() -> set[str]:
  # gin has no public list of what is registered.
  return {selector.split(".")[-1] for selector, _ in gin.config._REGISTRY.items()}


def _parameters(configurable: str) -> list[str]:
  return list(inspect.signature(gin.get_configurable(configurable)).parameters)
