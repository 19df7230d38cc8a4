"""What accelerators can do, by their makers' data sheets.

Sources: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}; for v4's links Jouppi et al. 2023 (arXiv:2304.01433: six
of
 50 GB/s); NVIDIA's data sheets of the A100, H100 and H200 in their SXM form, and of the DGX of each for the
network. Where a sheet gives a link's two directions together, half is taken.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
  """One chip: what jax calls a device.

  Attributes:
    name: short, as in the names of slices.
    device_kinds: what jax calls it (`jax.Device.device_kind`).
    peak_flops: dense bfloat16 operations per second.
    memory_bytes: high-bandwidth memory. What a program can use is a little less.
    memory_bandwidth: of that memory, bytes per second.
    link_bandwidth: bytes per second that a chip can send over all its fast links together (ICI, NVLink).
    network_bandwidth: bytes per second that a chip can send to chips which the links do not reach; None where
      the makers do not say.
    node_size: chips that the links join; None for TPUs, where it is the whole slice.
  """

  name: str
  device_kinds: tuple[str, ...]
  peak_flops: float
  memory_bytes: int
  memory_bandwidth: float
  link_bandwidth: float
  network_bandwidth: float | None = None
  node_size: int | None = None


ACCELERATORS = (
  Accelerator(
    name="v4",
    device_kinds=("TPU v4",),
    peak_flops=275e12,
    memory_bytes=32 * GIB,
    memory_bandwidth=1200e9,
    link_bandwidth=300e9,
  ),
  Accelerator(
    name="v5e",
    device_kinds=("TPU v5 lite", "TPU v5e"),
    peak_flops=197e12,
    memory_bytes=16 * GIB,
    memory_bandwidth=819e9,
    link_bandwidth=200e9,
    network_bandwidth=3.125e9,  # 6.4 Tbit/s for 256 chips
  ),
  Accelerator(
    name="v5p",
    device_kinds=("TPU v5", "TPU v5p"),
    peak_flops=459e12,
    memory_bytes=95 * GIB,
    memory_bandwidth=2765e9,
    link_bandwidth=600e9,
    network_bandwidth=6.25e9,
  ),
  Accelerator(
    name="v6e",
    device_kinds=("TPU v6 lite", "TPU v6e"),
    peak_flops=918e12,
    memory_bytes=32 * GIB,
    memory_bandwidth=1638e9,
    link_bandwidth=400e9,
  ),
  Accelerator(
    name="a100-40gb",
    device_kinds=("NVIDIA A100-SXM4-40GB",),
    peak_flops=312e12,
    memory_bytes=40 * GIB,
    memory_bandwidth=1555e9,
    link_bandwidth=300e9,
    network_bandwidth=25e9,
    node_size=8,
  ),
  Accelerator(
    name="a100",
    device_kinds=("NVIDIA A100-SXM4-80GB",),
    peak_flops=312e12,
    memory_bytes=80 * GIB,
    memory_bandwidth=2039e9,
    link_bandwidth=300e9,
    network_bandwidth=25e9,
    node_size=8,
  ),
  Accelerator(
    name="h100",
    device_kinds=("NVIDIA H100 80GB HBM3",),
    peak_flops=989e12,
    memory_bytes=80 * GIB,
    memory_bandwidth=3350e9,
    link_bandwidth=450e9,
    network_bandwidth=50e9,
    node_size=8,
  ),
  Accelerator(
    name="h200",
    device_kinds=("NVIDIA H200",),
    peak_flops=989e12,
    memory_bytes=141 * GIB,
    memory_bandwidth=4800e9,
    link_bandwidth=450e9,
    network_bandwidth=50e9,
    node_size=8,
  ),
)


def find(device_kind: str) -> Accelerator | None:
  """The accelerator that jax calls `device_kind`; None for one that is not listed."""
  return next((a for a in ACCELERATORS if device_kind in a.device_kinds), None)
