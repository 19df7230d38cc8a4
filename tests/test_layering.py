"""Who may import whom (docs/architecture.md, "Who may import whom"), read off the imports themselves."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Package → the project's packages it may import besides itself. errors and files are free to all.
ALLOWED = {
  "singsong_jax.tokens": set(),
  "singsong_jax.audio": set(),
  "singsong_jax.networks": set(),
  "singsong_jax.codecs": {"singsong_jax.audio", "singsong_jax.networks"},
  "singsong_jax.semantics": {"singsong_jax.audio", "singsong_jax.networks"},
  "singsong_jax.decoding": {"singsong_jax.tokens"},
  "singsong_jax.systems": {"singsong_jax.decoding", "singsong_jax.networks", "singsong_jax.tokens"},
  "singsong_jax.training": {"singsong_jax.systems.base"},
  "singsong_jax.inference": {
    "singsong_jax.training",
    "singsong_jax.systems",
    "singsong_jax.decoding",
    "singsong_jax.codecs",
    "singsong_jax.semantics",
    "singsong_jax.tokens",
    "singsong_jax.audio",
  },
  "singsong_jax.evaluation": {
    "singsong_jax.inference",
    "singsong_jax.training.exported",
    "singsong_jax.systems",
    "singsong_jax.decoding",
    "singsong_jax.codecs",
    "singsong_jax.semantics",
    "singsong_jax.tokens",
    "singsong_jax.audio",
  },
  "singsong_jax.listening": {"singsong_jax.audio", "singsong_jax.evaluation"},
  "singsong_jax.sweeps": set(),
  "tasks": {"singsong_jax.tokens", "singsong_jax.audio"},
  "data_pipelines": {
    "singsong_jax.tokens",
    "singsong_jax.audio",
    "singsong_jax.codecs",
    "singsong_jax.semantics",
    "singsong_jax.cli",
    "singsong_jax.systems",  # these two and the units: of code_book, which hears with a trained network
    "singsong_jax.training.checkpoints",
    "tasks.audio_units",
    "tasks.corpus",
    "tasks.schema",
  },
}
FREE = {"singsong_jax.errors", "singsong_jax.files", "singsong_jax.storage", "singsong_jax"}
CORE = ("networks", "decoding", "systems", "training")
HEAVY = (
  "tensorflow",
  "seqio",
  "apache_beam",
  "librosa",
  "pyloudnorm",
  "soundfile",
  "torch",
  "transformers",
  "onnxruntime",
  "tqdm",
  "sklearn",
  "matplotlib",
)


def imported_modules(path: pathlib.Path) -> set[str]:
  """Modules imported anywhere in a file; `from a import b` counts as `a.b` where that is a module."""
  modules = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      modules |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      modules |= {full if is_module(full := f"{node.module}.{a.name}") else node.module for a in node.names}
  return modules


def is_module(name: str) -> bool:
  path = ROOT / name.replace(".", "/")
  return path.with_suffix(".py").exists() or path.is_dir()


def within(module: str, packages) -> bool:
  return any(module == package or module.startswith(package + ".") for package in packages)


def files_of(package: str) -> list[pathlib.Path]:
  return sorted((ROOT / package.replace(".", "/")).rglob("*.py"))


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_downwards(package):
  assert files_of(package), f"{package} has no files: update this test"
  for path in files_of(package):
    ours = {
      m for m in imported_modules(path) if m.split(".")[0] in ("singsong_jax", "tasks", "data_pipelines")
    }
    wrong = {m for m in ours if m not in FREE and not within(m, ALLOWED[package] | {package})}
    assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_library_knows_neither_tasks_nor_pipelines():
  for path in files_of("singsong_jax"):
    assert not {m for m in imported_modules(path) if within(m, {"tasks", "data_pipelines"})}, path


def test_only_the_adapter_imports_upstream_t5x():
  users = {path.name for path in files_of("singsong_jax") if within_any(path, "t5x")}
  assert users <= {"t5x_adapter.py"}


def within_any(path: pathlib.Path, package: str) -> bool:
  return any(within(module, {package}) for module in imported_modules(path))


@pytest.mark.slow
def test_the_core_imports_without_the_heavy_libraries():
  """GPU machines have jax, flax, optax, orbax, gin and clu, and none of HEAVY."""
  modules = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in CORE
    for path in files_of(f"singsong_jax.{package}")
    if path.name != "t5x_adapter.py"
  ]
  code = f"import sys\nfor m in {HEAVY!r}: sys.modules[m] = None\n" + "\n".join(
    f"import {m}" for m in modules
  )
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_junk_drawer_and_no_giant_file():
  files = [p for package in ("singsong_jax", "tasks", "data_pipelines", "tests") for p in files_of(package)]
  assert not [p for p in files if p.stem in ("utils", "util", "helpers", "misc", "common")]
  assert not [p for p in files if len(p.read_text().splitlines()) > 450]
  assert not (ROOT / "gin" / "__init__.py").exists(), "it would shadow gin-config"
