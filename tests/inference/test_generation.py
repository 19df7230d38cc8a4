"""What the stages ask of the systems, looked at through systems that only take notes."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from singsong_jax.audio.noise import add_noise
from singsong_jax.decoding.sampling import SamplingOptions
from singsong_jax.inference.generation import MAX_ROWS, CoarseStage, FineStage, sample_keys
from singsong_jax.inference.models import load_models
from singsong_jax.inference.progress import StageTimes
from singsong_jax.inference.settings import Settings
from singsong_jax.inference.windows import CodeStream, SlidingWindows


class Noting:
  """A system that notes how it is called and makes legal ids of the rows' keys alone, forced ones kept."""

  def __init__(self, system, layout, always=()):
    self._system, self._layout, self._always = system, layout, always
    self.calls = []

  def __getattr__(self, name):
    return getattr(self._system, name)

  def generate(self, params, batch, rng, options, *, forced_spans=(), samples=1):
    self.calls.append(types.SimpleNamespace(batch=batch, rng=rng, spans=forced_spans, samples=samples))
    codes = jax.vmap(lambda key: jax.random.randint(key, (self._layout.length,), 0, 16))(rng)
    ids = np.asarray(codes) + self._layout.block_starts
    for start, stop in (*self._always, *forced_spans):
      ids[:, start:stop] = batch["decoder_target_tokens"][:, start:stop]
    return ids


@pytest.fixture(scope="module")
def models(model_dir, fine_model_dir):
  return load_models(model_dir, fine_model_dir=fine_model_dir)


@pytest.fixture
def waveforms(voice):
  return [voice(1.0, pitch_hz=pitch) for pitch in (150, 200, 250, 300)]


@pytest.fixture
def run_coarse(models, waveforms):
  """`run(store, **settings)` → (calls, stream) of four windows."""

  def run(store, **changes):
    settings = Settings(**changes)
    system = Noting(models.coarse.system, models.coarse.system.target_layout)
    noting = dataclasses.replace(models.coarse, system=system)
    windows = SlidingWindows.make(system.target_layout)
    stage = CoarseStage(dataclasses.replace(models, coarse=noting), windows, settings, StageTimes())
    return system.calls, stage.run([{16_000: waveform} for waveform in waveforms], 4, store)

  return run


def test_each_window_is_given_what_the_one_before_generated(run_coarse):
  store = {}
  calls, _ = run_coarse(store, samples=2)
  assert [call.spans for call in calls] == [()] + [((0, 12), (25, 121))] * 3  # 0.48 s of 25 + 50 · 4
  for i in range(1, 4):
    earlier, ids = store[f"window_{i - 1:05}"], store[f"window_{i:05}"]
    assert ids.shape == (2, 225)
    np.testing.assert_array_equal(ids[:, :12], earlier[:, 13:25])
    np.testing.assert_array_equal(ids[:, 25:121], earlier[:, 129:225])


def test_the_stream_is_the_first_window_and_what_the_others_add(run_coarse, models):
  store = {}
  _, stream = run_coarse(store)
  coarse = [models.coarse.system.target_layout.decode(store[f"window_{i:05}"])[1] for i in range(4)]
  expected = np.concatenate([coarse[0], *(codes[:, 24:] for codes in coarse[1:])], axis=1)
  np.testing.assert_array_equal(stream.read(0, stream.num_frames), expected)
  assert stream.num_frames == 50 + 3 * 26


def test_every_window_has_its_own_noise_and_all_samples_the_same(run_coarse, models, waveforms):
  calls, _ = run_coarse({}, seed=5, samples=3)
  encode = models.tokenizers.semantics.encode
  for i, call in enumerate(calls):
    noisy = add_noise(waveforms[i], 0.01, seed=(5, i))
    np.testing.assert_array_equal(call.batch["encoder_input_tokens"], encode(noisy)[None] + 2)
    assert call.samples == 3


def test_guidance_is_away_from_the_same_noise_without_a_voice(run_coarse, models):
  calls, _ = run_coarse({}, options=SamplingOptions(guidance_scale=2.0))
  encode = models.tokenizers.semantics.encode
  for i, call in enumerate(calls):
    noise = add_noise(np.zeros(16_000, np.float32), 0.01, seed=(0, i))
    np.testing.assert_array_equal(call.batch["guidance_input_tokens"], encode(noise)[None] + 2)
  assert "guidance_input_tokens" not in run_coarse({})[0][0].batch


def test_what_the_store_has_is_not_generated_again(run_coarse):
  whole = {}
  run_coarse(whole, samples=2)
  half = {name: whole[name] for name in ("window_00000", "window_00001")}
  calls, _ = run_coarse(half, samples=2)
  assert len(calls) == 2
  assert half.keys() == whole.keys()
  for name in whole:
    np.testing.assert_array_equal(half[name], whole[name])


def test_keys_differ_and_do_not_depend_on_the_number_of_samples():
  keys = {
    tuple(np.asarray(jax.random.key_data(key)))
    for seed in (0, 1)
    for stream in (0, 1)
    for part in (0, 1)
    for key in sample_keys(seed, stream, part, 3)
  }
  assert len(keys) == 24
  few, many = (jax.random.key_data(sample_keys(0, 1, 2, n)) for n in (2, 5))
  np.testing.assert_array_equal(few, many[:2])


@pytest.fixture
def run_fine(models):
  """`run(coarse, num_frames, store, samples)` → (calls, stream); chunks of 15 frames."""

  def run(coarse, num_frames, store, samples=1):
    system = models.fine.system
    noting = Noting(system, system.layout, always=((0, system.layout.coarse_length),))
    stage = FineStage(
      dataclasses.replace(models.fine, system=noting), Settings(samples=samples), StageTimes()
    )
    stream = CodeStream([0, coarse.shape[1]], lambda i: coarse)
    return noting.calls, stage.run(stream, num_frames, store)

  return run


def coarse_codes(frames, samples=1):
  return np.random.default_rng(0).integers(0, 16, (samples, frames, 4))


@pytest.mark.parametrize("samples", [1, 3])
def test_fine_chunks_keep_the_coarse_codes_and_cover_the_song(run_fine, samples):
  coarse = coarse_codes(128, samples)
  calls, stream = run_fine(coarse, 128, {}, samples)
  refined = stream.read(0, 128)
  assert stream.num_frames == 128
  assert refined.shape == (samples, 128, 12)
  np.testing.assert_array_equal(refined[..., :4], coarse)
  chunks = max(1, MAX_ROWS // samples)
  rows = {len(call.batch["decoder_target_tokens"]) for call in calls[:-1]}
  assert rows == {min(8, chunks) * samples}  # one shape: one compilation


def test_the_last_chunk_is_given_what_it_shares_with_the_one_before(run_fine):
  """128 frames: eight chunks of 15, then frames 113 … 127, of which 113 … 119 are known."""
  store = {}
  calls, _ = run_fine(coarse_codes(128), 128, store)
  assert calls[-1].spans == ((60, 60 + 7 * 8),)
  np.testing.assert_array_equal(store["chunk_00008"][:, :7], store["chunk_00007"][:, 8:])
  assert all(call.spans == () for call in calls[:-1])


@pytest.mark.parametrize(("frames", "chunks"), [(1, 1), (30, 2), (31, 3)])
def test_no_more_is_refined_than_the_vocal_needs(run_fine, frames, chunks):
  store = {}
  run_fine(coarse_codes(128), frames, store)
  assert len(store) == chunks


@pytest.mark.parametrize("samples", [2, 9])
def test_a_sample_is_refined_as_it_is_alone(run_fine, samples):
  coarse = coarse_codes(40, samples)
  _, together = run_fine(coarse, 40, {}, samples)
  _, alone = run_fine(coarse[:1], 40, {}, 1)
  np.testing.assert_array_equal(together.read(0, 40)[:1], alone.read(0, 40))


def test_refining_goes_on_where_it_was(run_fine):
  whole = {}
  run_fine(coarse_codes(200), 200, whole)
  half = {name: whole[name] for name in sorted(whole)[:9]}
  calls, _ = run_fine(coarse_codes(200), 200, half)
  assert len(calls) == 2  # the second batch, of which one chunk was there, and the last chunk
  for name in whole:
    np.testing.assert_array_equal(half[name], whole[name])
