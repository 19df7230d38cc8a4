"""The two stages that generate: windows of semantic and coarse codes, then chunks of fine ones."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from singsong_jax.audio.noise import add_noise
from singsong_jax.inference.models import Model, Models
from singsong_jax.inference.progress import StageTimes, progress_bar
from singsong_jax.inference.settings import Settings
from singsong_jax.inference.token_store import TokenStore
from singsong_jax.inference.windows import CodeStream, SlidingWindows, chunk_starts
from singsong_jax.systems.fine import Fine
from singsong_jax.systems.singsong import SingSong
from singsong_jax.tokens.featurization import NOISE_SIGMA

MAX_ROWS = 8  # chunks × samples refined at once
_COARSE_STREAM, _FINE_STREAM = 0, 1  # of random numbers


def sample_keys(seed: int, stream: int, part: int, samples: int) -> jax.Array:
  """Keys `[samples]` of one window or chunk; a sample's does not depend on how many there are."""
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), part)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(samples))


class CoarseStage:
  """Semantic and coarse codes, one window after the other (§3.3, §6)."""

  def __init__(self, models: Models, windows: SlidingWindows, settings: Settings, times: StageTimes):
    self._params = models.coarse.params
    self._system: SingSong = models.coarse.system
    self._tokenizers = models.tokenizers
    self._windows = windows
    self._settings = settings
    self._times = times

  @property
  def rates_hz(self) -> list[int]:
    """Those at which the tokenisers of the encoder's input hear the vocals."""
    heard = {"s": self._tokenizers.semantics, "a": self._tokenizers.codec}
    return sorted({heard[stream].sample_rate_hz for stream in self._system.input_layout.streams})

  def run(
    self, windows: Iterable[Mapping[int, np.ndarray]], num_windows: int, store: TokenStore
  ) -> CodeStream:
    """Windows of the vocal, as `_encode` takes them, to the codes to hear `[samples, frames, levels]`."""
    bounds = self._windows.boundaries(num_windows)
    seconds = np.diff(bounds) / self._system.target_layout.heard_rate_hz  # [windows]
    done = sum(seconds[i] for i in range(num_windows) if _window_name(i) in store)
    with progress_bar("semantic and coarse codes", sum(seconds), done) as bar:
      for i, waveforms in enumerate(windows):
        if _window_name(i) in store:
          continue
        previous = store[_window_name(i - 1)] if i else None
        batch = self._batch(waveforms, i, previous)
        store[_window_name(i)] = self._times.generate(seconds[i], self._generate, batch, i)
        bar.update(seconds[i])
    return CodeStream(bounds, lambda i: self._windows.added_codes(store[_window_name(i)], i))

  def _generate(self, batch: dict[str, np.ndarray], window: int) -> jax.Array:
    settings = self._settings
    return self._system.generate(
      self._params,
      batch,
      sample_keys(settings.seed, _COARSE_STREAM, window, settings.samples),
      settings.options,
      forced_spans=self._windows.forced_spans(window),
      samples=settings.samples,
    )  # [samples, T]

  def _batch(
    self, waveforms: Mapping[int, np.ndarray], window: int, previous: np.ndarray | None
  ) -> dict[str, np.ndarray]:
    batch = {"encoder_input_tokens": self._encode(waveforms, window)}  # [1, S]
    if self._settings.options.guidance_scale != 1:  # away from what is played for silence
      silence = {rate_hz: np.zeros_like(waveform) for rate_hz, waveform in waveforms.items()}
      batch["guidance_input_tokens"] = self._encode(silence, window)
    if previous is not None:
      batch["decoder_target_tokens"] = self._windows.carry_over(previous)  # [samples, T]
    return batch

  def _encode(self, waveforms: Mapping[int, np.ndarray], window: int) -> np.ndarray:
    """A window of vocals to the encoder's input, int32 `[1, S]`.

    Args:
      waveforms: each of `rates_hz` → float32 `[samples]`. As in the data, each tokeniser hears noise of the
        same σ at its own rate.
    """
    layout, sigma = self._system.input_layout, NOISE_SIGMA[self._system.vocals]
    seed = (self._settings.seed, window)
    noisy = {rate_hz: add_noise(waveform, sigma, seed)[None] for rate_hz, waveform in waveforms.items()}
    semantics, codec = self._tokenizers.semantics, self._tokenizers.codec
    semantic = semantics.encode(noisy[semantics.sample_rate_hz]) if "s" in layout.streams else None
    acoustic = codec.encode(noisy[codec.sample_rate_hz]) if "a" in layout.streams else None
    return layout.encode(semantic, acoustic)


def _window_name(window: int) -> str:
  return f"window_{window:05}"


class FineStage:
  """Fine codes, in chunks that do not know of each other (AudioLM §III-D): many at once."""

  def __init__(self, model: Model, settings: Settings, times: StageTimes):
    self._params = model.params
    self._system: Fine = model.system
    self._settings = settings
    self._samples = settings.samples
    self._times = times

  def run(self, coarse: CodeStream, num_frames: int, store: TokenStore) -> CodeStream:
    """Coarse codes to all levels of at least `num_frames` frames: codes `[samples, frames, levels]`."""
    layout = self._system.layout
    starts = chunk_starts(num_frames, coarse.num_frames, layout.frames)
    bounds = [*range(0, len(starts) * layout.frames, layout.frames), starts[-1] + layout.frames]
    stream = CodeStream(bounds, lambda i: store[_chunk_name(i)])
    seconds = np.diff(bounds) / layout.acoustic_rate_hz  # [chunks]
    missing = [
      batch for batch in self._batches(starts) if any(_chunk_name(chunk) not in store for chunk in batch)
    ]
    missing_seconds = [seconds[list(set(batch))].sum() for batch in missing]
    with progress_bar("fine codes", seconds.sum(), seconds.sum() - sum(missing_seconds)) as bar:
      for batch, audio_seconds in zip(missing, missing_seconds):
        codes, known_frames = self._codes(batch, starts, coarse, stream)
        refined = self._generate(codes, batch, known_frames, audio_seconds)
        for chunk, i in {chunk: i for i, chunk in enumerate(batch)}.items():  # one may be there twice
          store[_chunk_name(chunk)] = refined[i * self._samples : (i + 1) * self._samples]
        bar.update(audio_seconds)
    return stream

  def _batches(self, starts: list[int]) -> list[list[int]]:
    """Chunks to refine at once, in order; the last batch repeats its last chunk so that all have one shape.

    A chunk that overlaps the one before comes alone: it has to wait for that one's codes.
    """
    whole = [i for i, start in enumerate(starts) if start == i * self._system.layout.frames]
    size = min(len(whole), max(1, MAX_ROWS // self._samples))
    batches = [whole[i : i + size] for i in range(0, len(whole), size)]
    batches[-1] += batches[-1][-1:] * (size - len(batches[-1]))
    return batches + [[i] for i in range(len(whole), len(starts))]

  def _codes(
    self, batch: list[int], starts: list[int], coarse: CodeStream, stream: CodeStream
  ) -> tuple[np.ndarray, int]:
    """Codes `[chunks · samples, frames, levels]`: coarse ones, and fine ones of the known frames, else 0.

    Known are the frames a chunk shares with the one before; their number is returned too.
    """
    layout = self._system.layout
    levels, start = layout.num_coarse_levels, starts[batch[0]]
    known = stream.boundaries[batch[0]] - start
    codes = np.zeros((len(batch) * self._samples, layout.frames, layout.num_levels), np.int32)
    codes[..., :levels] = np.concatenate(
      [coarse.read(starts[chunk], starts[chunk] + layout.frames) for chunk in batch]
    )
    if known:
      codes[:, :known, levels:] = stream.read(start, start + known)[..., levels:]
    return codes, known

  def _generate(
    self, codes: np.ndarray, batch: list[int], known_frames: int, audio_seconds: float
  ) -> np.ndarray:
    """What `_codes` gives to codes of all levels, int16 of the same shape."""
    layout, seed = self._system.layout, self._settings.seed
    spans = ((layout.coarse_length, layout.coarse_length + known_frames * layout.num_fine_levels),)
    ids = self._times.generate(
      audio_seconds,
      self._system.generate,
      self._params,
      {"decoder_target_tokens": layout.encode(codes)},
      jnp.concatenate([sample_keys(seed, _FINE_STREAM, chunk, self._samples) for chunk in batch]),
      self._settings.fine_options,
      forced_spans=spans if known_frames else (),
    )
    return layout.decode(ids).astype(np.int16)


def _chunk_name(chunk: int) -> str:
  return f"chunk_{chunk:05}"
