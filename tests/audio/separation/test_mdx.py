"""MDX-Net's runner, with networks made here: what it does to a mix can be told without the public weights."""

import numpy as np
import pytest

from singsong_jax.audio.separation.base import Clip, get_separator
from singsong_jax.audio.separation.mdx import HOP_SAMPLES, MdxSeparator, MdxTransform
from singsong_jax.errors import InputError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FFT, FRAMES = 6_144, 16
BINS = FFT // 2 + 1
FULL = MdxTransform(fft_samples=FFT, num_bins=BINS, num_frames=FRAMES)


def save_network(path, nodes, shape=("batch", 4, BINS, FRAMES), output=None, weights=()):
  """An ONNX file with the given nodes from `x` to `y`."""
  helper = onnx.helper
  values = [
    helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
    for name, sizes in (("x", shape), ("y", output or shape))
  ]
  graph = helper.make_graph(nodes, "mdx", values[:1], values[1:], list(weights))
  model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
  onnx.save(model, str(path))
  return str(path)


def identity(path, **options):
  return save_network(path, [onnx.helper.make_node("Identity", ["x"], ["y"])], **options)


def times(path, factor, **options):
  half = onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")
  return save_network(path, [onnx.helper.make_node("Mul", ["x", "factor"], ["y"])], weights=[half], **options)


def convolution(path):
  """A random 3 × 3 convolution over 4 planes, as a network has."""
  kernel = np.random.default_rng(0).normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32)
  weights = [onnx.numpy_helper.from_array(kernel, "kernel")]
  node = onnx.helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1])
  return save_network(path, [node], weights=weights)


def clips(*lengths, seed=0):
  rng = np.random.default_rng(seed)
  return [
    Clip(
      mix=rng.normal(0, 0.3, length).astype(np.float32), sample_rate_hz=44_100, song="a", offset_seconds=0.0
    )
    for length in lengths
  ]


def test_the_papers_chunks():
  public = MdxTransform(fft_samples=FFT, num_bins=2_048, num_frames=256)
  assert (public.chunk_samples, public.kept_samples) == (261_120, 254_976)


def test_the_spectrogram_is_a_plain_fourier_sum():
  """Frame f, bin k: Σ x[1024 f + n − 3072] w[n] e^(−2πi k n / 6144), x reflected at both ends."""
  chunk = np.random.default_rng(1).normal(size=(1, 2, FULL.chunk_samples)).astype(np.float32)
  planes = FULL.forward(chunk)
  assert planes.shape == (1, 4, BINS, FRAMES) and planes.dtype == np.float32
  n = np.arange(FFT)
  window = 0.5 - 0.5 * np.cos(2 * np.pi * n / FFT)
  last = FULL.chunk_samples - 1
  for channel, frame, k in [(0, 0, 5), (1, 3, 0), (0, 15, 700), (1, 8, 2_047)]:
    position = np.abs(HOP_SAMPLES * frame + n - FFT // 2)
    position = last - np.abs(last - position)
    value = np.sum(chunk[0, channel, position] * window * np.exp(-2j * np.pi * k * n / FFT))
    found = planes[0, 2 * channel, k, frame] + 1j * planes[0, 2 * channel + 1, k, frame]
    assert found == pytest.approx(value, abs=2e-3)


def test_the_inverse_gives_the_waveform_back():
  chunk = np.random.default_rng(2).normal(size=(3, 2, FULL.chunk_samples)).astype(np.float32)
  np.testing.assert_allclose(FULL.inverse(FULL.forward(chunk)), chunk, atol=1e-5)


def test_torch_has_the_same_transform():
  torch = pytest.importorskip("torch")
  chunk = np.random.default_rng(3).normal(size=(2, FULL.chunk_samples)).astype(np.float32)
  window = torch.hann_window(FFT, periodic=True)
  spectrum = torch.stft(
    torch.from_numpy(chunk), FFT, HOP_SAMPLES, window=window, center=True, return_complex=True
  )
  planes = torch.view_as_real(spectrum).permute(0, 3, 1, 2).reshape(1, 4, BINS, FRAMES)
  np.testing.assert_allclose(FULL.forward(chunk[None]), planes.numpy(), atol=2e-3)
  back = torch.istft(spectrum * 0.3, FFT, HOP_SAMPLES, window=window, center=True).numpy()
  np.testing.assert_allclose(FULL.inverse(0.3 * planes.numpy())[0], back, atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
@pytest.mark.parametrize("factor", [1.0, 0.5])
@pytest.mark.parametrize("length", [5_000, 9_216, 44_100])
def test_a_network_that_scales_scales_the_mix(tmp_path, factor, length, overlap):
  """Whatever the chunks: no seams, no level changed, the length kept."""
  separator = get_separator(f"mdx:{times(tmp_path / 'v.onnx', factor)},overlap={overlap}")
  two = clips(length, length)
  vocals = separator.separate(two)
  assert vocals.dtype == np.float32
  np.testing.assert_allclose(vocals, factor * np.stack([clip.mix for clip in two]), atol=2e-6)


def test_bins_beyond_the_networks_are_left_out(tmp_path):
  """2,048 bins of 6,144 samples end at 14.7 kHz."""
  path = identity(tmp_path / "vocals.onnx", shape=("batch", 4, 2_048, FRAMES))
  (separator, seconds) = get_separator(f"mdx:{tmp_path}"), np.arange(30_000) / 44_100
  assert path.endswith("vocals.onnx")  # the folder has one such file
  for hz, gain in [(1_000, 1), (14_000, 1), (15_500, 0), (20_000, 0)]:
    mix = np.sin(2 * np.pi * hz * seconds).astype(np.float32)
    clip = Clip(mix=mix, sample_rate_hz=44_100, song="a", offset_seconds=0.0)
    inner = slice(4_000, -4_000)
    np.testing.assert_allclose(separator.separate([clip])[0][inner], gain * mix[inner], atol=2e-3)


@pytest.mark.parametrize("overlap", [0, 0.25])
def test_batches_change_nothing(tmp_path, overlap):
  path = convolution(tmp_path / "v.onnx")
  one, many = (get_separator(f"mdx:{path},overlap={overlap},batch_chunks={n}") for n in (1, 5))
  three = clips(30_000, 30_000, 30_000)
  together = many.separate(three)
  alone = np.concatenate([one.separate([clip]) for clip in three])
  np.testing.assert_allclose(together, alone, atol=1e-6)
  np.testing.assert_array_equal(together, many.separate(three))
  assert np.abs(together).max() > 0.1


def test_a_random_network_hears_the_whole_and_mono_stays_mono(tmp_path):
  """One chunk by hand: transform, network, inverse, mean of the channels, trimmed."""
  runtime = pytest.importorskip("onnxruntime")
  path = convolution(tmp_path / "v.onnx")
  session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
  (clip,) = clips(FULL.kept_samples)
  padded = np.pad(clip.mix, FULL.trim_samples)
  (output,) = session.run(None, {"x": FULL.forward(np.stack([padded, padded])[None])})
  expected = FULL.inverse(output)[0].mean(axis=0)[FULL.trim_samples : -FULL.trim_samples]
  np.testing.assert_allclose(get_separator(f"mdx:{path}").separate([clip])[0], expected, atol=1e-6)


def test_a_fixed_batch_size(tmp_path):
  separator = get_separator(f"mdx:{identity(tmp_path / 'v.onnx', shape=(3, 4, BINS, FRAMES))}")
  two = clips(40_000, 40_000)  # 2 × 5 chunks
  np.testing.assert_allclose(separator.separate(two), np.stack([clip.mix for clip in two]), atol=2e-6)


def test_the_description_is_of_the_content(tmp_path):
  first = get_separator(f"mdx:{identity(tmp_path / 'a.onnx')}")
  same = get_separator(f"mdx:{identity(tmp_path / 'b.onnx')},batch_chunks=2")
  other = get_separator(f"mdx:{times(tmp_path / 'c.onnx', 0.5)}")
  assert first.describe() == same.describe() != other.describe()
  assert isinstance(first, MdxSeparator) and len(first.describe()["sha256"]) == 64


def test_what_is_no_mdx_network(tmp_path):
  wrong = {
    "rank.onnx": identity(tmp_path / "rank.onnx", shape=("batch", 4, BINS)),
    "planes.onnx": identity(tmp_path / "planes.onnx", shape=("batch", 2, BINS, FRAMES)),
    "frames.onnx": identity(tmp_path / "frames.onnx", shape=("batch", 4, BINS, "time")),
  }
  for name, path in wrong.items():
    with pytest.raises(InputError, match=rf"{name} maps .* MDX-Net maps one \(batch, 4, dim_f, dim_t\)"):
      get_separator(f"mdx:{path}")
  with pytest.raises(InputError, match="has 3073 bins, fft_samples is 4096"):
    get_separator(f"mdx:{identity(tmp_path / 'a.onnx')},fft_samples=4096")
  with pytest.raises(InputError, match="has 5 frames, fewer than"):
    get_separator(f"mdx:{identity(tmp_path / 'short.onnx', shape=('batch', 4, BINS, 5))}")
  (tmp_path / "text.onnx").write_text("not a network")
  with pytest.raises(InputError, match=r"text\.onnx is not an ONNX model"):
    get_separator(f"mdx:{tmp_path}/text.onnx")
  with pytest.raises(InputError, match=r"no such file; docs/data\.md"):
    get_separator(f"mdx:{tmp_path}/none.onnx")
  with pytest.raises(InputError, match=r"the folder has 0 files \*vocals\*\.onnx"):
    get_separator(f"mdx:{tmp_path}")
  with pytest.raises(InputError, match="overlap is 1; it must be"):
    get_separator(f"mdx:{tmp_path}/a.onnx,overlap=1")
  wrong_rate = Clip(mix=np.zeros(9, np.float32), sample_rate_hz=16_000, song="a", offset_seconds=0.0)
  with pytest.raises(InputError, match="a has 16000 Hz; MDX-Net hears 44100"):
    get_separator(f"mdx:{tmp_path}/a.onnx").separate([wrong_rate])
