"""KUIELab's MDX-Net (Kim et al. 2021), the paper's separator, from its public ONNX file.

The network maps the spectrogram of a stereo mix to that of the vocals, in chunks of fixed length:

    mix [2, chunk] ─ STFT ─► [4, dim_f, dim_t] ─ network ─► [4, dim_f, dim_t] ─ inverse ─► [2, chunk]

with planes (left re, left im, right re, right im), chunk = 1024 (dim_t − 1) samples, and bins from dim_f on
left out. `trim` samples on both sides of a chunk are inexact, so chunks overlap by that and what remains is
laid end to end. Levels are not touched: vocals are what the network says, at the mix's scale.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from singsong_jax import storage
from singsong_jax.audio.public_weights import import_extra
from singsong_jax.audio.separation.base import Clip, check_rates
from singsong_jax.audio.separation.chunks import Chunks
from singsong_jax.errors import InputError

SAMPLE_RATE_HZ = 44_100
HOP_SAMPLES = 1_024
VOCALS_FFT_SAMPLES = 6_144  # not written in the file; the other stems have 4,096, 8,192 and 16,384


@dataclasses.dataclass(frozen=True)
class MdxTransform:
  """The STFT of the network: periodic Hann window, centred frames, reflected ends.

  Attributes:
    fft_samples: of a frame.
    num_bins: dim_f; higher ones are left out, and silent in the output.
    num_frames: dim_t.
  """

  fft_samples: int
  num_bins: int
  num_frames: int

  @property
  def chunk_samples(self) -> int:
    """What a spectrogram covers."""
    return HOP_SAMPLES * (self.num_frames - 1)

  @property
  def trim_samples(self) -> int:
    """How much of a chunk's either end has frames that know reflections only."""
    return self.fft_samples // 2

  @property
  def kept_samples(self) -> int:
    """What of a chunk is used."""
    return self.chunk_samples - 2 * self.trim_samples

  @property
  def _window(self) -> np.ndarray:
    return np.hanning(self.fft_samples + 1)[:-1].astype(np.float32)

  def forward(self, chunks: np.ndarray) -> np.ndarray:
    """float32 `[batch, 2, chunk]` → float32 `[batch, 4, bins, frames]`."""
    half = self.fft_samples // 2
    padded = np.pad(chunks, ((0, 0), (0, 0), (half, half)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, self.fft_samples, axis=-1)[:, :, ::HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * self._window, axis=-1)[..., : self.num_bins]  # [batch, 2, frames, bins]
    planes = np.stack([spectrum.real, spectrum.imag], axis=2)  # [batch, 2, 2, frames, bins]
    shape = (len(chunks), 4, self.num_frames, self.num_bins)
    return np.ascontiguousarray(planes.reshape(shape).swapaxes(2, 3), np.float32)

  def inverse(self, planes: np.ndarray) -> np.ndarray:
    """float32 `[batch, 4, bins, frames]` → float32 `[batch, 2, chunk]`: least squares, as torch's istft."""
    planes = planes.swapaxes(2, 3).reshape(len(planes), 2, 2, self.num_frames, self.num_bins)
    frames = np.fft.irfft(planes[:, :, 0] + 1j * planes[:, :, 1], self.fft_samples, axis=-1)
    total = _overlap_add(frames * self._window)
    weight = _overlap_add(np.broadcast_to(self._window**2, (1, 1, self.num_frames, self.fft_samples)))
    half = self.fft_samples // 2
    inner = slice(half, half + self.chunk_samples)
    return (total[..., inner] / weight[..., inner]).astype(np.float32)


def _overlap_add(frames: np.ndarray) -> np.ndarray:
  """`[…, frames, n]` → `[…, (frames − 1) hop + n]`, n a multiple of the hop."""
  *batch, count, size = frames.shape
  parts = frames.reshape(*batch, count, size // HOP_SAMPLES, HOP_SAMPLES)
  total = np.zeros((*batch, count + size // HOP_SAMPLES - 1, HOP_SAMPLES))
  for part in range(size // HOP_SAMPLES):
    total[..., part : part + count, :] += parts[..., part, :]
  return total.reshape(*batch, -1)


class MdxSeparator:
  """Vocals by an ONNX file such as KUIELab's `onnx_A/vocals.onnx`."""

  name = "mdx"

  def __init__(
    self, session: Any, transform: MdxTransform, *, sha256: str, overlap: float = 0.0, batch_chunks: int = 4
  ):
    """`from_pretrained` makes it.

    Args:
      session: an `onnxruntime.InferenceSession`.
      sha256: hex, of the file.
      overlap: share of the kept part that neighbours have in common, faded with a Hann window; 0 lays them
        end to end, as the network's authors do.
      batch_chunks: how many chunks go through the network at a time.

    Raises:
      InputError: the settings are out of range.
    """
    if not 0 <= overlap <= 0.9:
      raise InputError(f"--separator=mdx: overlap is {overlap}; it must be from 0 to 0.9")
    if batch_chunks < 1:
      raise InputError(f"--separator=mdx: batch_chunks is {batch_chunks}; it must be at least 1")
    self._session, self._transform = session, transform
    self._sha256, self._overlap = sha256, overlap
    kept = transform.kept_samples
    self._chunks = Chunks(
      kept_samples=kept,
      step_samples=max(1, round(kept * (1 - overlap))),
      context_samples=transform.trim_samples,
    )
    (self._input,) = session.get_inputs()
    batch = self._input.shape[0]
    self._batch_chunks = batch if isinstance(batch, int) else batch_chunks
    self.batch_clips = max(1, batch_chunks // 2)  # 10 s are two chunks

  @classmethod
  def from_pretrained(
    cls, source: str | os.PathLike, *, fft_samples: int = VOCALS_FFT_SAMPLES, **settings: Any
  ) -> Self:
    """Reads an ONNX file, on this machine or in a bucket, or the one with `vocals` in its name of a folder.

    Args:
      fft_samples: of the STFT it was trained with, which the file does not say.

    Raises:
      InputError: no such file, no ONNX, another interface, or no onnxruntime.
    """
    runtime = import_extra("onnxruntime", "mdx", "--separator=mdx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))  # 0: as many as it likes
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    with storage.local(source) as copy:
      path = _find(copy.expanduser(), source)
      content = path.read_bytes()
    try:
      session = runtime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime has an exception type for each of its statuses
      reason = " ".join(str(error).split())[:300]
      raise InputError(f"{path} is not an ONNX model that onnxruntime reads: {reason}") from error
    transform = _transform_of(path, session, fft_samples)
    return cls(session, transform, sha256=hashlib.sha256(content).hexdigest(), **settings)

  def describe(self) -> dict[str, Any]:
    return {
      "name": self.name,
      "sha256": self._sha256,
      "fft_samples": self._transform.fft_samples,
      "overlap": self._overlap,
    }

  def separate(self, clips: Sequence[Clip]) -> np.ndarray:
    """Raises InputError for clips that do not have 44,100 Hz."""
    check_rates(clips, SAMPLE_RATE_HZ, "MDX-Net")
    mixes = np.stack([clip.mix for clip in clips])  # [clips, samples]
    return self._chunks.separate(mixes, self._run, self._batch_chunks)

  def _run(self, chunks: np.ndarray) -> np.ndarray:
    """float32 `[n, chunk]` → the kept part of its vocals, `[n, kept]`: mono → stereo → mono."""
    count = len(chunks)
    if isinstance(self._input.shape[0], int):  # a batch of fixed size
      chunks = np.pad(chunks, ((0, self._batch_chunks - count), (0, 0)))
    spectrum = self._transform.forward(np.repeat(chunks[:, None], 2, axis=1))
    (output,) = self._session.run(None, {self._input.name: spectrum})
    trim = self._transform.trim_samples
    return self._transform.inverse(output[:count]).mean(axis=1)[:, trim:-trim]


def _find(path: pathlib.Path, source: str | os.PathLike) -> pathlib.Path:
  """The file that the path of a source stands for."""
  if not path.exists():
    raise InputError(f"--separator=mdx:{source}: no such file; docs/data.md says where to get vocals.onnx")
  if not path.is_dir():
    return path
  found = sorted(file for file in path.glob("*.onnx") if "vocals" in file.name.lower())
  if len(found) != 1:
    raise InputError(
      f"--separator=mdx:{source}: the folder has {len(found)} files *vocals*.onnx; give the path of one"
    )
  return found[0]


def _transform_of(path: pathlib.Path, session: Any, fft_samples: int) -> MdxTransform:
  """The transform of a network's interface. Raises InputError where it is not MDX-Net's."""
  shapes = [[tuple(node.shape) for node in nodes] for nodes in (session.get_inputs(), session.get_outputs())]
  expected = (
    f"{path} maps {shapes[0]} to {shapes[1]}; MDX-Net maps one (batch, 4, dim_f, dim_t) to the same shape"
  )
  if [len(nodes) for nodes in shapes] != [1, 1] or len(shapes[0][0]) != 4:
    raise InputError(expected)
  (_, planes, num_bins, num_frames), output = shapes[0][0], shapes[1][0]
  fixed = (planes, num_bins, num_frames)
  if planes != 4 or not all(isinstance(size, int) for size in fixed):
    raise InputError(expected)
  if len(output) != 4 or any(isinstance(size, int) and size != want for size, want in zip(output[1:], fixed)):
    raise InputError(expected)
  if fft_samples % (2 * HOP_SAMPLES) or num_bins > fft_samples // 2 + 1:
    raise InputError(
      f"{path} has {num_bins} bins, fft_samples is {fft_samples}: it must be a multiple of {2 * HOP_SAMPLES} "
      f"and at least {2 * num_bins - 2}"
    )
  transform = MdxTransform(fft_samples, num_bins, num_frames)
  if transform.kept_samples < 1:
    raise InputError(f"{path} has {num_frames} frames, fewer than a frame of {fft_samples} samples reaches")
  return transform
