"""benchmarks/data.py: its network is MDX-Net's size, and its sums are right."""

import numpy as np
import pytest

from benchmarks import data
from singsong_jax.audio.separation.base import Clip, get_separator

onnx = pytest.importorskip("onnx")


def test_the_network_has_the_public_files_size(tmp_path):
  from benchmarks import mdx_network

  mdx_network.save(tmp_path / "vocals.onnx")
  weights = onnx.load(str(tmp_path / "vocals.onnx")).graph.initializer
  assert sum(np.prod(weight.dims) for weight in weights) == pytest.approx(7.4e6, rel=0.01)
  assert (tmp_path / "vocals.onnx").stat().st_size == pytest.approx(29.7e6, rel=0.01)


def test_a_small_one_separates(tmp_path):
  from benchmarks import mdx_network

  mdx_network.save(tmp_path / "vocals.onnx", num_bins=256, num_frames=32)
  mix = np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32)
  clip = Clip(mix=mix, sample_rate_hz=44_100, song="a", offset_seconds=0.0)
  vocals = get_separator(f"mdx:{tmp_path}").separate([clip])
  assert vocals.shape == (1, 30_000) and np.isfinite(vocals).all() and vocals.any()


def test_the_estimate_leaves_the_other_separator_out():
  speeds = {"load": 100.0, "separate (repet)": 10.0, "separate (mdx)": 1.0, "tokenise": 10.0}
  assert data.estimate(speeds, "mdx", 0.5) == pytest.approx(
    {"core_hours": 46_000 * 1.11, "hours_on_1000_cores": 46 * 1.11, "price": 23_000 * 1.11}
  )
  assert data.estimate(speeds, "repet", 0.5)["core_hours"] == pytest.approx(46_000 * 0.21)
