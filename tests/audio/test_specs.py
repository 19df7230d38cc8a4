"""What --codec and --semantics may say, with tokenisers made for the test."""

import dataclasses
import sys
import types

import numpy as np
import pytest

from singsong_jax.audio import specs
from singsong_jax.audio.fitted_file import FittedFile
from singsong_jax.codecs.base import codec_from_spec, codec_or_unfitted
from singsong_jax.codecs.mdct import MdctSettings
from singsong_jax.errors import InputError
from singsong_jax.semantics.base import semantic_encoder_from_spec, semantic_encoder_or_unfitted
from singsong_jax.semantics.logmel import LogMelRecipe


@dataclasses.dataclass(frozen=True)
class Toy:
  """A tokeniser of public weights."""

  source: str
  settings: dict

  @classmethod
  def from_pretrained(cls, source, layer=1, **settings):
    if source == "extra":
      raise ModuleNotFoundError("No module named 'absent'", name="absent")
    if settings.keys() - {"num_codes", "pool"}:
      raise TypeError(f"from_pretrained() got an unexpected keyword argument {next(iter(settings))!r}")
    return cls(source, {"layer": layer, **settings})

  @classmethod
  def from_file(cls, file):
    return cls("file", file.settings)


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
  """One tokeniser of each sort; `own` is embedded."""
  monkeypatch.setitem(sys.modules, "toys", types.SimpleNamespace(Toy=Toy))
  monkeypatch.setattr(specs.importlib.resources, "files", lambda package: tmp_path)
  file = FittedFile(kind="own", settings={"a": 1}, source={}, arrays={"x": np.zeros(1)})
  file.save(tmp_path / "pretrained" / "own.npz")
  fitted = {"mdct": "singsong_jax.codecs.mdct:MdctSettings"}
  return specs.Catalogue("codec", {"own": "toys:Toy"}, ("own",), fitted, {"far": "toys:Toy"})


@pytest.mark.parametrize(
  ("spec", "expected"),
  [
    ("own", Toy("file", {"a": 1})),
    ("far:owner/name@main", Toy("owner/name@main", {"layer": 1})),
    (
      "far:/a/b c,layer=9,num_codes=500,pool=mean",
      Toy("/a/b c", {"layer": 9, "num_codes": 500, "pool": "mean"}),
    ),
    ("mdct", MdctSettings()),
    ("mdct,num_levels=8,exponent=0.5", MdctSettings(num_levels=8, exponent=0.5)),
  ],
)
def test_names_sources_and_settings(catalogue, spec, expected):
  assert catalogue.load(spec) == expected


def test_a_path_is_read_by_its_kind(catalogue, tmp_path):
  assert catalogue.load(str(tmp_path / "pretrained" / "own.npz")) == Toy("file", {"a": 1})


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    (
      "onw",
      r"--codec=onw: it may be own, mdct, far:SOURCE or a tokeniser's .npz file, .*; did you mean own\?",
    ),
    ("", "it may be own"),
    ("gs://bucket/codec", "it may be own"),
    ("far", "far needs weights: far:SOURCE"),
    ("far,layer=2", "far needs weights"),
    ("far:x,depth=2", "there is no such setting: 'depth'"),
    ("far:extra", "it needs the package 'absent'; docs/tokenizers.md"),
    ("own:x", "own takes no source"),
    ("own,a=2", "own is trained already"),
    ("mdct:x", "mdct takes no source"),
    ("mdct,levels=2", "there is no such setting: 'levels'"),
    ("nowhere/codec.npz", r"nowhere/codec.npz does not exist"),
  ],
)
def test_what_cannot_be_meant(catalogue, spec, message):
  with pytest.raises(InputError, match=message):
    catalogue.load(spec)


def test_a_missing_embedded_file_is_named(catalogue, tmp_path):
  (tmp_path / "pretrained" / "own.npz").unlink()
  with pytest.raises(InputError, match=r"pretrained/own\.npz does not exist"):
    catalogue.load("own")


def test_the_classical_ones_are_fitted_on_songs():
  assert codec_or_unfitted("mdct") == MdctSettings()
  assert semantic_encoder_or_unfitted("logmel,num_codes=8") == LogMelRecipe(num_codes=8)
  for make, spec in ((codec_from_spec, "mdct"), (semantic_encoder_from_spec, "logmel")):
    with pytest.raises(
      InputError, match=rf"={spec} is fitted on songs: give .*tokenizers/(codec|semantics)\.npz"
    ):
      make(spec)
