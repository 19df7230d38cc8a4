"""The network of MusicFM and MuQ in PyTorch, under the names that their published weights have.

    waveform → log-mel, zero mean and unit variance over its training data → 2 residual blocks, strides 2·2
      → linear → Conformer of `transformers`, with rotary positions

Imported where PyTorch is known to be there.
"""

from collections.abc import Mapping
from typing import Any

import librosa
import numpy as np
import torch
from torch import nn
from transformers import Wav2Vec2ConformerConfig
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoder

STRIDE = 4  # log-mel frames a frame
_WINDOW_SAMPLES = 2048  # of log-mel frames
_CONFIGURED = ("hidden_act", "layer_norm_eps", "position_embeddings_type")  # weights tell the rest


class LogMel:
  """torchaudio's MelSpectrogram and AmplitudeToDB with their defaults, less the last frame, normalised."""

  def __init__(self, bands: int, sample_rate_hz: int, hop_samples: int, mean: float, std: float):
    filters = librosa.filters.mel(
      sr=sample_rate_hz, n_fft=_WINDOW_SAMPLES, n_mels=bands, htk=True, norm=None, dtype=np.float32
    )
    self._filters, self._window = torch.from_numpy(filters), torch.hann_window(_WINDOW_SAMPLES)
    self._hop_samples, self._mean, self._std = hop_samples, mean, std

  def __call__(self, clips: torch.Tensor) -> torch.Tensor:
    """`[n, samples]`, a multiple of the hop, to `[n, bands, samples / hop]`; more for less than 1025."""
    short = max(0, _WINDOW_SAMPLES // 2 + 1 - clips.shape[-1])  # less cannot be mirrored
    spectrum = torch.stft(
      nn.functional.pad(clips, (0, short)),
      _WINDOW_SAMPLES,
      self._hop_samples,
      window=self._window.to(clips.device),
      return_complex=True,
    )
    power = self._filters.to(clips.device) @ spectrum.abs().square()
    return (10 * power.clamp(min=1e-10).log10()[..., :-1] - self._mean) / self._std


class ResidualBlock(nn.Module):
  """Two 2-D convolutions beside one, of stride 2 in both directions."""

  def __init__(self, inputs: int, channels: int):
    super().__init__()
    self.conv1, self.bn1 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels)
    self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
    self.conv3, self.bn3 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
    return (y + self.bn3(self.conv3(x))).relu()


class FrontEnd(nn.Module):
  """Log-mel to vectors: `[n, bands, steps]` to `[n, ⌈steps / 4⌉, dims]`."""

  def __init__(self, channels: int, width: int, dims: int):
    super().__init__()
    self.conv = nn.Sequential(ResidualBlock(1, channels), ResidualBlock(channels, channels))
    self.linear = nn.Linear(width, dims)

  def forward(self, mel: torch.Tensor) -> torch.Tensor:
    x = self.conv(mel[:, None])  # [n, channels, bands / 4, steps / 4]
    return self.linear(x.flatten(1, 2).transpose(1, 2))


class Encoder(nn.Module):
  """Waveform to the Conformer's output: `[n, samples]` to `[n, frames, dims]`."""

  def __init__(self, log_mel: LogMel, conv: FrontEnd, conformer: Wav2Vec2ConformerEncoder):
    super().__init__()
    self.log_mel, self.conv, self.conformer = log_mel, conv, conformer
    self.conformer.pos_conv_embed = nn.Identity()  # not called where positions are rotary

  def forward(self, waveform: torch.Tensor) -> torch.Tensor:
    return self.conformer(self.conv(self.log_mel(waveform))).last_hidden_state


def build(
  state: Mapping[str, torch.Tensor],
  config: Mapping[str, Any],
  sample_rate_hz: int,
  hop_samples: int,
  mean: float,
  std: float,
) -> Encoder:
  """A network that weights have the shapes of.

  Args:
    config: of the Conformer.
    hop_samples, mean, std: of log-mel.

  Raises:
    KeyError: a weight whose shape is needed is missing.
  """
  channels = state["conv.conv.0.conv1.weight"].shape[0]
  dims, width = state["conv.linear.weight"].shape
  block = "conformer.layers.0."
  conformer = Wav2Vec2ConformerConfig(
    **{name: config[name] for name in _CONFIGURED if name in config},
    hidden_size=dims,
    num_hidden_layers=len({name.split(".")[2] for name in state if name.startswith("conformer.layers.")}),
    num_attention_heads=dims // (2 * len(state["conformer.embed_positions.inv_freq"])),
    intermediate_size=state[f"{block}ffn1.intermediate_dense.weight"].shape[0],
    conv_depthwise_kernel_size=state[f"{block}conv_module.depthwise_conv.weight"].shape[-1],
    attn_implementation="eager",
  )
  log_mel = LogMel(width // channels * STRIDE, sample_rate_hz, hop_samples, mean, std)
  return Encoder(log_mel, FrontEnd(channels, width, dims), Wav2Vec2ConformerEncoder(conformer))
