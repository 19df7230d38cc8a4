"""MDX-Net's network with random weights: what the public `vocals.onnx` computes, for measuring how long it
takes.

The layout is TFC-TDF v2 of Kim et al. 2021 (L = 11 blocks, l = 3 convolutions, growth g = 32, bottleneck bn
= 8):

    1 × 1 conv ─ [block ─ 2 × 2 strided conv] × 5 ─ block ─ [transposed conv ─ × skip ─ block] × 5 ─ 1 × 1
    conv

where a block is TFC (3 × 3 convolutions over time and frequency) plus TDF (two dense layers over frequency).
Batch normalisation is folded into the convolutions, as exporters do.
"""

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DEPTH, CONVOLUTIONS, GROWTH, BOTTLENECK = 5, 3, 32, 8


class _Graph:
  """Collects nodes and random weights."""

  def __init__(self, seed: int):
    self._rng = np.random.default_rng(seed)
    self.nodes: list[onnx.NodeProto] = []
    self.weights: list[onnx.TensorProto] = []

  def add(self, op: str, *inputs: str, **attributes) -> str:
    name = f"t{len(self.nodes)}"
    self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
    return name

  def weight(self, *shape: int) -> str:
    name = f"w{len(self.weights)}"
    values = self._rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
    self.weights.append(numpy_helper.from_array(values, name))
    return name

  def conv(self, x: str, inputs: int, outputs: int, size: int, stride: int = 1) -> str:
    pads = [size // 2 if stride == 1 else 0] * 4
    return self.add("Conv", x, self.weight(outputs, inputs, size, size), pads=pads, strides=[stride] * 2)

  def block(self, x: str, channels: int, bins: int) -> str:
    """[batch, channels, frames, bins] → the same."""
    for _ in range(CONVOLUTIONS):
      x = self.add("Relu", self.conv(x, channels, channels, 3))
    dense = x
    for sizes in ((bins, bins // BOTTLENECK), (bins // BOTTLENECK, bins)):
      dense = self.add("Relu", self.add("MatMul", dense, self.weight(*sizes)))
    return self.add("Add", x, dense)


def save(path: str | os.PathLike, num_bins: int = 2_048, num_frames: int = 256, seed: int = 0) -> None:
  """Writes the network as ONNX, [batch, 4, num_bins, num_frames] to the same; 7.4 M weights at the public
  sizes.
  """
  graph, channels, bins = _Graph(seed), GROWTH, num_bins
  x = graph.add("Transpose", "x", perm=[0, 1, 3, 2])
  x = graph.add("Relu", graph.conv(x, 4, channels, 1))
  skips = []
  for _ in range(DEPTH):
    x = graph.block(x, channels, bins)
    skips.append(x)
    x = graph.add("Relu", graph.conv(x, channels, channels + GROWTH, 2, stride=2))
    channels, bins = channels + GROWTH, bins // 2
  x = graph.block(x, channels, bins)
  for skip in reversed(skips):
    weight = graph.weight(channels, channels - GROWTH, 2, 2)
    x = graph.add("Relu", graph.add("ConvTranspose", x, weight, strides=[2, 2]))
    channels, bins = channels - GROWTH, bins * 2
    x = graph.block(graph.add("Mul", x, skip), channels, bins)
  graph.add("Transpose", graph.conv(x, channels, 4, 1), perm=[0, 1, 3, 2])
  graph.nodes[-1].output[0] = "y"
  shape = ("batch", 4, num_bins, num_frames)
  x_info, y_info = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
  model = helper.make_model(
    helper.make_graph(graph.nodes, "mdx", [x_info], [y_info], graph.weights),
    opset_imports=[helper.make_opsetid("", 17)],
    ir_version=8,
  )
  onnx.save(model, os.fspath(path))
