"""What `--codec` and `--semantics` may say, and which tokeniser it stands for.

    soundstream                                 embedded: its file comes with the package
    mdct                                        fitted on the songs that are prepared
    mdct,num_levels=8,num_codes=64              the same with other settings
    DATA/tokenizers/codec.npz                   a file that `save` wrote
    dac:SOURCE                                  public weights: a folder, a file, or a name on a hub
    hubert:SOURCE,layer=9,num_codes=500         public weights whose code book is fitted on the songs

`codecs/base.py` and `semantics/base.py` list the names.
"""

import ast
import dataclasses
import importlib
import importlib.resources
import inspect
import operator
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from singsong_jax.audio import fitted_file
from singsong_jax.errors import InputError, did_you_mean

_SPEC = re.compile(r"(?P<name>[a-z]\w*)(?::(?P<source>.+?))?(?P<settings>(?:,\w+=[^,]*)*)")


class Unfitted(Protocol):
  """A tokeniser that has to hear songs first.

  Attributes:
    sample_rate_hz: of the clips it wants.
  """

  sample_rate_hz: int

  def fit(self, clips: Iterable[np.ndarray], seed: int) -> Any:
    """The tokeniser. `clips`, each float32 `[samples]`, may be gone through more than once."""

  def describe(self) -> dict[str, Any]:
    """As JSON: all that the fitted one will depend on besides clips and seed."""


@dataclasses.dataclass(frozen=True)
class Catalogue:
  """The tokenisers of one sort; values are `module:Class`, imported when asked for.

  Attributes:
    what: 'codec', for messages and as the flag's name.
    kinds: kind of a file → the class whose `from_file` reads it.
    embedded: names whose file is in `singsong_jax/pretrained/`.
    fitted: name → a class that is `Unfitted`, made of the settings.
    public: name → the class whose `from_pretrained(source, **settings)` makes a tokeniser, or an `Unfitted`
      one.
  """

  what: str
  kinds: Mapping[str, str]
  embedded: tuple[str, ...]
  fitted: Mapping[str, str]
  public: Mapping[str, str]

  def load(self, spec: str) -> Any:
    """The tokeniser a spec stands for, or an `Unfitted` one.

    Raises:
      InputError: an unknown name or setting, a missing or damaged file, a package that is not installed.
    """
    name, source, settings = parse_spec(spec)
    if name in self.public:
      if not source:
        raise self._error(spec, f"{name} needs weights: {name}:SOURCE, a folder or a name on a hub")
      return construct(self._flag(spec), f"{self.public[name]}.from_pretrained", source, **settings)
    if name in (*self.embedded, *self.fitted):
      return self._load_own(spec, name, source, settings)
    if spec.endswith(".npz") or os.path.exists(spec):
      return self._read(spec)
    raise self._error(spec, f"{self.choices()}{did_you_mean(name or spec, self.names)}")

  @property
  def names(self) -> tuple[str, ...]:
    return (*self.embedded, *self.fitted, *self.public)

  def choices(self) -> str:
    """All that may be said, for people."""
    of_source = [f"{name}:SOURCE" for name in self.public]
    known = ", ".join([*self.embedded, *self.fitted, *of_source])
    return f"it may be {known} or a tokeniser's .npz file, or come from --gin_file=gin/{self.what}/NAME.gin"

  def _read(self, path: str | os.PathLike) -> Any:
    return fitted_file.load_kind(path, self.kinds, self.what.replace("semantics", "semantic encoder"))

  def _load_own(self, spec: str, name: str, source: str | None, settings: dict[str, Any]) -> Any:
    if source:
      raise self._error(spec, f"{name} takes no source; a file is given by its path alone")
    if name in self.fitted:
      return construct(self._flag(spec), self.fitted[name], **settings)
    if settings:
      raise self._error(spec, f"{name} is trained already and takes no settings")
    folder = importlib.resources.files("singsong_jax") / "pretrained"
    with importlib.resources.as_file(folder / f"{name}.npz") as path:
      return self._read(path)

  def _error(self, spec: str, message: str) -> InputError:
    return InputError(f"{self._flag(spec)}: {message}")

  def _flag(self, spec: str) -> str:
    return f"--{self.what}={spec}"


def parse_spec(spec: str) -> tuple[str | None, str | None, dict[str, Any]]:
  """`name`, source and settings of `name:SOURCE,setting=value…`; name None where it is no such text."""
  match = _SPEC.fullmatch(spec)
  return (match["name"], match["source"], _settings(match["settings"])) if match else (None, None, {})


def construct(flag: str, target: str, *args: Any, **settings: Any) -> Any:
  """Calls `module:function` or `module:Class.method`, imported now.

  Raises:
    InputError: naming the flag: a package that is not installed, or a setting that does not exist.
  """
  module, _, path = target.partition(":")
  try:
    make = operator.attrgetter(path)(importlib.import_module(module))
    if settings and not inspect.signature(make).parameters:
      raise InputError(f"{flag}: it has no settings")
    return make(*args, **settings)
  except ModuleNotFoundError as error:
    raise InputError(
      f"{flag}: it needs the package {error.name!r}; docs/tokenizers.md and docs/data.md say which "
      "extra brings it"
    ) from error
  except TypeError as error:
    if "unexpected keyword" not in str(error):
      raise
    raise InputError(f"{flag}: there is no such setting: {str(error).rpartition(' ')[2]}") from error


def _settings(text: str) -> dict[str, Any]:
  """`,name=value,…`; a value that is no Python literal is a string."""
  settings = {}
  for part in filter(None, text.split(",")):
    name, _, value = part.partition("=")
    try:
      settings[name] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      settings[name] = value
  return settings


def fitted_already(tokenizer: Any, catalogue: Catalogue, spec: str) -> Any:
  """`tokenizer` itself. Raises InputError where it still has to hear songs."""
  if is_unfitted(tokenizer):
    raise InputError(
      f"--{catalogue.what}={spec} is fitted on songs: give the file that `python -m data_pipelines.prepare` "
      f"wrote, <data directory>/tokenizers/{catalogue.what}.npz"
    )
  return tokenizer


def is_unfitted(tokenizer: Any) -> bool:
  """Whether it is `Unfitted`."""
  return hasattr(tokenizer, "fit")
