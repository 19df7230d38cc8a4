"""VGGish (Hershey et al. 2017): the embedding of FAD_VGGish. Its weights are the user's to bring.

    16 kHz ─ log-mel [96 frames, 64 bands] every 0.96 s ─ 6 convolutions, 4 poolings ─ 12,288 ─ 4096 ─ 4096 ─
    128

`vggish-10086976.pth` of github.com/harritaylor/torchvggish (Apache-2.0; a conversion of Google's) is read
with PyTorch, a `.safetensors` file with the same names without it. The published implementations differ in
three ways, and so do their numbers; all are settings here:

    relu=False            what frechet-audio-distance and fadtk take: before the last ReLU
    google_norm=False     Google's own FAD divides a clip by max(0.1, its largest sample)
    block_seconds=0.96    Google's own FAD cuts blocks of 1 s, of which the first 0.96 s are heard
"""

import functools
import hashlib
import math
import os
import pathlib
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.audio.public_weights import import_extra
from singsong_jax.errors import InputError

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ, LOG_OFFSET = 64, 125.0, 7_500.0, 0.01
PATCH_FRAMES = 96
CONVOLUTIONS = {"features.0": 64, "features.3": 128, "features.6": 256, "features.8": 256} | {
  "features.11": 512,
  "features.13": 512,
}
POOLED = ("features.0", "features.3", "features.8", "features.13")  # a 2 × 2 maximum follows
DENSE = {"embeddings.0": 4_096, "embeddings.2": 4_096, "embeddings.4": 128}
_PATCHES_AT_A_TIME = 64
Weights = dict[str, np.ndarray]


class Vggish:
  """Waveforms to vectors of 128 numbers, one for each 0.96 s."""

  sample_rate_hz = SAMPLE_RATE_HZ

  def __init__(
    self,
    weights: Weights,
    sha256: str,
    *,
    relu: bool = False,
    google_norm: bool = False,
    block_seconds: float = 0.96,
  ):
    """`from_pretrained` makes it.

    Args:
      weights: by the names of torchvggish, in PyTorch's layout.
      sha256: hex, of their file.

    Raises:
      InputError: settings of another kind, or blocks shorter than a patch.
    """
    for name, value in (("relu", relu), ("google_norm", google_norm)):
      if not isinstance(value, bool):
        raise InputError(f"--embedding=vggish: {name} is {value!r}; it may be True or False")
    if not isinstance(block_seconds, int | float) or not 0.96 <= block_seconds < math.inf:
      raise InputError(f"--embedding=vggish: block_seconds is {block_seconds!r}; a patch takes 0.96 s")
    self._weights = jax.tree.map(jnp.asarray, to_jax(weights))
    self._sha256 = sha256
    self._relu, self._google_norm, self._block_seconds = relu, google_norm, block_seconds

  @classmethod
  def from_pretrained(cls, source: str | os.PathLike, **settings: Any) -> Self:
    """Reads a file. Raises InputError where it is missing or holds other weights."""
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
      raise InputError(f"--embedding=vggish:{source}: no such file; docs/evaluation.md says where to get it")
    weights = _read(path)
    check_weights(path, weights)
    return cls(weights, hashlib.sha256(path.read_bytes()).hexdigest(), **settings)

  @property
  def name(self) -> str:
    """With what differs from the common variant."""
    extras = [
      ("relu", self._relu),
      ("google_norm", self._google_norm),
      ("1 s blocks", self._block_seconds > 0.96),
    ]
    return "VGGish" + "".join(f" + {name}" for name, on in extras if on)

  def describe(self) -> dict[str, Any]:
    """As JSON."""
    return {"name": self.name, "sha256": self._sha256, "block_seconds": self._block_seconds}

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    """float `[samples]` at 16 kHz → float32 `[patches, 128]`; 10 s give 10."""
    if self._google_norm:
      waveform = waveform / max(0.1, float(np.max(waveform, initial=0)))
    patches = make_patches(waveform, self._block_seconds)
    found = [np.zeros((0, DENSE["embeddings.4"]), np.float32)]
    for start in range(0, len(patches), _PATCHES_AT_A_TIME):
      part = patches[start : start + _PATCHES_AT_A_TIME]
      missing = _PATCHES_AT_A_TIME - len(part)  # one shape, compiled once
      vectors = _network(self._weights, np.pad(part, ((0, missing), (0, 0), (0, 0))), self._relu)
      found.append(np.asarray(vectors)[: len(part)])
    return np.concatenate(found)


def make_patches(waveform: np.ndarray, block_seconds: float = 0.96) -> np.ndarray:
  """float `[samples]` at 16 kHz → log-mel patches float32 `[patches, 96, 64]`."""
  if block_seconds == 0.96:  # frames run on across patches, as in the original
    frames = log_mel(waveform)
    return frames[: len(frames) // PATCH_FRAMES * PATCH_FRAMES].reshape(-1, PATCH_FRAMES, NUM_BANDS)
  size = round(block_seconds * SAMPLE_RATE_HZ)
  blocks = [waveform[start : start + size] for start in range(0, len(waveform) - size + 1, size)]
  empty = np.zeros((0, PATCH_FRAMES, NUM_BANDS), np.float32)
  return np.concatenate([empty, *(log_mel(block)[None, :PATCH_FRAMES] for block in blocks)])


def log_mel(waveform: np.ndarray) -> np.ndarray:
  """float `[samples]` → float32 `[frames, 64]`: log(magnitude in HTK mel bands + 0.01)."""
  if len(waveform) < FRAME_SAMPLES:
    return np.zeros((0, NUM_BANDS), np.float32)
  frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::HOP_SAMPLES]
  window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES)
  magnitude = np.abs(np.fft.rfft(frames * window, FFT_SAMPLES, axis=1))
  return np.log(magnitude @ mel_filters() + LOG_OFFSET).astype(np.float32)


@functools.cache
def mel_filters() -> np.ndarray:
  """float64 `[257, 64]`: triangles that are linear in mel, not in Hz; the lowest bin is left out."""

  def mel(hz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

  bins = mel(np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1))[:, None]
  edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), NUM_BANDS + 2)
  rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
  falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
  filters = np.maximum(0, np.minimum(rising, falling))
  filters[0] = 0
  return filters


@functools.partial(jax.jit, static_argnames="relu")
def _network(weights: dict[str, Any], patches: jax.Array, relu: bool) -> jax.Array:
  """float32 `[n, 96, 64]` → `[n, 128]`."""
  x = patches[..., None]
  for name in CONVOLUTIONS:
    kernel, bias = weights[name]
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.relu(x + bias)
    if name in POOLED:
      x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
  x = x.reshape(len(x), -1)  # time, band, channel: as TensorFlow lays it out
  for name in DENSE:
    kernel, bias = weights[name]
    x = x @ kernel + bias
    if relu or name != "embeddings.4":
      x = jax.nn.relu(x)
  return x


def shapes() -> dict[str, tuple[int, ...]]:
  """Of all weights, in PyTorch's layout."""
  found: dict[str, tuple[int, ...]] = {}
  inputs = 1
  for name, outputs in CONVOLUTIONS.items():
    found |= {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
    inputs = outputs
  inputs *= (PATCH_FRAMES // 16) * (NUM_BANDS // 16)
  for name, outputs in DENSE.items():
    found |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    inputs = outputs
  return found


def to_jax(weights: Weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Kernel and bias of each layer, kernels as jax has them: HWIO and [in, out]."""
  kernels = {name: weights[f"{name}.weight"] for name in (*CONVOLUTIONS, *DENSE)}
  return {
    name: (kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T, weights[f"{name}.bias"])
    for name, kernel in kernels.items()
  }


def check_weights(path: pathlib.Path, weights: Weights) -> None:
  """Raises InputError where a weight is missing or of another shape."""
  for name, shape in shapes().items():
    found = weights[name].shape if name in weights else "missing"
    if found != shape:
      raise InputError(f"{path} does not hold VGGish's weights: {name} is {found}, expected {shape}")


def _read(path: pathlib.Path) -> Weights:
  try:
    if path.suffix == ".safetensors":
      return import_extra("safetensors.numpy", "torch", "--embedding=vggish").load_file(path)
    torch = import_extra("torch", "torch", f"reading {path.name}")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in stored.items()}
  except InputError:
    raise
  except Exception as error:  # pickle, zip files and safetensors have many of their own
    raise InputError(f"{path} is not a file of weights: {' '.join(str(error).split())[:300]}") from error
