"""audio/fingerprint.py: the same recording in other clothes is found, other recordings are not."""

import functools
import io

import numpy as np
import pytest
import scipy.signal
import soundfile

from singsong_jax.audio import fingerprint
from singsong_jax.audio.resampling import resample
from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.errors import InputError

RATE_HZ, SECONDS, NUM_LISTED, NUM_OTHERS = 22_050, 20, 4, 20


@functools.cache
def song(seed):
  """A demo song with a texture of its own, as recordings have: float32 `[samples]` at 22.05 kHz.

  The demo's instruments are the same few synthesisers, bit for bit; no two recordings are.
  """
  mix = resample(synthesize_song(seed=seed, seconds=SECONDS).mix, 44_100, RATE_HZ)
  rng = np.random.default_rng(seed)
  room = rng.normal(0, 1, 4_000) * np.exp(-np.arange(4_000) / 800)
  wet = scipy.signal.fftconvolve(mix, room / np.linalg.norm(room))[: len(mix)]
  return (0.6 * mix + 0.4 * wet + 0.003 * rng.normal(size=len(mix))).astype(np.float32)


@pytest.fixture(scope="module")
def index():
  return fingerprint.Index(
    {f"song {seed}": fingerprint.fingerprint(song(seed), RATE_HZ) for seed in range(NUM_LISTED)}
  )


def as_file(waveform, **options):
  coded = io.BytesIO()
  soundfile.write(coded, waveform, RATE_HZ, **options)
  return soundfile.read(io.BytesIO(coded.getvalue()), dtype="float32")[0]


def noisy(waveform):
  """White noise at a signal-to-noise ratio of 15 dB."""
  rms = np.sqrt(np.mean(waveform**2))
  return waveform + np.random.default_rng(1).normal(0, rms * 10 ** (-15 / 20), len(waveform))


DISGUISES = {
  "itself": lambda x: (x, RATE_HZ),
  "quieter": lambda x: (0.05 * x, RATE_HZ),
  "inverted": lambda x: (-x, RATE_HZ),
  "another rate": lambda x: (resample(x, RATE_HZ, 16_000), 16_000),
  "mp3": lambda x: (as_file(x, format="MP3"), RATE_HZ),
  "vorbis": lambda x: (as_file(x, format="OGG", subtype="VORBIS"), RATE_HZ),
  "noise": lambda x: (noisy(x), RATE_HZ),
  "ten seconds": lambda x: (x[5 * RATE_HZ + 1_237 : 15 * RATE_HZ + 1_237], RATE_HZ),
  "ten seconds as mp3": lambda x: (as_file(x[3 * RATE_HZ + 501 : 13 * RATE_HZ + 501], format="MP3"), RATE_HZ),
  "within another": lambda x: (np.concatenate([song(100), x[: 10 * RATE_HZ], song(101)]), RATE_HZ),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_recording_is_found(index, disguise):
  for seed in range(NUM_LISTED):
    waveform, rate_hz = DISGUISES[disguise](song(seed))
    assert index.match(fingerprint.fingerprint(waveform, rate_hz)) == f"song {seed}"


def test_other_recordings_are_not(index):
  for seed in range(200, 200 + NUM_OTHERS):
    assert index.match(fingerprint.fingerprint(song(seed), RATE_HZ)) is None, seed


@pytest.mark.parametrize("hz", [220, 440, 441])
def test_silence_tones_and_clicks_are_nobodys(hz):
  seconds = np.arange(SECONDS * RATE_HZ) / RATE_HZ
  dull = {
    "silence": np.zeros(len(seconds)),
    "tone": 0.3 * np.sin(2 * np.pi * 440 * seconds),
    "clicks": (seconds % 0.5 < 0.01) * np.sin(2 * np.pi * 1_000 * seconds),
  }
  listed = fingerprint.Index({name: fingerprint.fingerprint(x, RATE_HZ) for name, x in dull.items()})
  assert listed.match(fingerprint.fingerprint(np.zeros(RATE_HZ * 15), RATE_HZ)) is None
  assert listed.match(fingerprint.fingerprint(0.1 * np.sin(2 * np.pi * hz * seconds), RATE_HZ)) is None
  other_clicks = ((seconds + 0.2) % 0.5 < 0.01) * np.sin(2 * np.pi * 1_200 * seconds)
  assert listed.match(fingerprint.fingerprint(other_clicks, RATE_HZ)) is None
  assert listed.match(np.zeros(0, np.uint32)) is None


def _seconds(seconds=SECONDS):
  return np.arange(seconds * RATE_HZ) / RATE_HZ


def tremolo(hz, phase):
  return 0.2 * np.sin(2 * np.pi * hz * _seconds()) * (1 + 0.5 * np.sin(2 * np.pi * 5 * (_seconds() + phase)))


def siren(hz, phase):
  return 0.2 * np.sin(2 * np.pi * (hz * _seconds() + 250 * np.sin(2 * np.pi * (_seconds() + phase))))


def stabs(hz, phase):
  """A chord struck twice a second."""
  decay = np.exp(-((_seconds() + phase) % 0.5) / 0.1)
  chord = sum(np.sin(2 * np.pi * hz * ratio * _seconds()) for ratio in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5))
  return 0.1 * decay * chord


def drum(hz, phase):
  """A kick drum four times in two seconds."""
  time = (_seconds() + phase) % 0.5
  return np.sin(2 * np.pi * (50 * time + hz * 0.02 * (1 - np.exp(-time / 0.02)))) * np.exp(-time / 0.08)


@pytest.mark.parametrize("sound", [tremolo, siren, stabs, drum])
def test_what_pulses_alike_is_not_the_same_recording(sound):
  one, other = (fingerprint.fingerprint(sound(*v), RATE_HZ) for v in ((440, 0.0), (470, 0.13)))
  assert fingerprint.Index({"one": one}).match(other) is None


@pytest.mark.parametrize("round_words", [100, 172])
def test_a_loop_is_found_though_each_of_its_words_is_common(round_words):
  """Rounds of a whole number of words: each word occurs as often as the loop goes round."""
  rate_hz = fingerprint.RATE_HZ
  beat = resample(song(7), RATE_HZ, rate_hz)[3 * rate_hz :][: 64 * round_words]
  loop = np.tile(beat, 90 * rate_hz // len(beat))
  words = fingerprint.fingerprint(loop, rate_hz)
  assert np.unique(words, return_counts=True)[1].max() > 32
  excerpt = fingerprint.fingerprint(loop[777 : 777 + 10 * rate_hz], rate_hz)
  assert (
    fingerprint.Index({"other": fingerprint.fingerprint(song(0), RATE_HZ), "loop": words}).match(excerpt)
    == "loop"
  )


@pytest.mark.parametrize(("hours", "at_words"), [(1.0, 200_003), (0.1, 16_000)])
def test_an_excerpt_within_hours(index, hours, at_words):
  """The second lies across the border between two pieces of the query."""
  words = np.random.default_rng(0).integers(1, 2**32, round(hours * 3_600 * 5_500 / 64), dtype=np.uint32)
  excerpt = fingerprint.fingerprint(song(2)[5 * RATE_HZ : 15 * RATE_HZ], RATE_HZ)
  words[at_words : at_words + len(excerpt)] = excerpt
  assert index.match(words) == "song 2"


def test_long_stretches_may_have_more_errors():
  """A quarter of the bits flipped, then nearly a third: over 6 s that is too much, over 20 s it is not."""
  rng = np.random.default_rng(0)
  words = rng.integers(1, 2**32, 4_000, dtype=np.uint32)
  listed = fingerprint.Index({"a": words})
  flips = np.packbits(rng.random((4_000, 32)) < 0.305, axis=1).view(np.uint32)[:, 0]
  flips[::50] = 0  # words to find the place by
  assert listed.match((words ^ flips)[:700]) is None
  assert listed.match(words ^ flips) == "a"
  flips = np.packbits(rng.random((4_000, 32)) < 0.37, axis=1).view(np.uint32)[:, 0]
  flips[::50] = 0
  assert listed.match(words ^ flips) is None


def test_what_words_are_made_of():
  """Bit 0 (the highest) is 1 where the energy of band 1 gains on band 0's: E(1) − E(0) rises."""
  energies = np.ones((3, fingerprint.BANDS), np.float32)
  energies[1, 1:] = 2  # everything above band 0 rises, then falls
  energies[2] = energies[1]
  assert [f"{word:032b}" for word in fingerprint._words(energies)] == ["1" + "0" * 31, "0" * 32]


@pytest.mark.parametrize("block", [1_000, 44_100, 10**7])
def test_blocks_make_no_difference(block):
  waveform = song(0)
  blocks = (waveform[start : start + block] for start in range(0, len(waveform), block))
  found = fingerprint.fingerprint_blocks(blocks, RATE_HZ)
  np.testing.assert_array_equal(found, fingerprint.fingerprint(waveform, RATE_HZ))
  assert found.dtype == np.uint32 and len(found) == pytest.approx((SECONDS - 0.37) * 5_500 / 64, abs=2)


def test_less_than_a_frame_has_no_words():
  assert not len(fingerprint.fingerprint(np.ones(100, np.float32), RATE_HZ))
  assert not len(fingerprint.fingerprint_blocks([], RATE_HZ))


def test_files(tmp_path):
  prints = {"Artist – Ünicode": np.arange(5, dtype=np.uint32), "b": np.zeros(0, np.uint32)}
  fingerprint.save(tmp_path / "list.npz", prints)
  loaded = fingerprint.load(tmp_path / "list.npz")
  assert list(loaded) == list(prints)
  for name, words in prints.items():
    np.testing.assert_array_equal(loaded[name], words)
  (tmp_path / "text.npz").write_text("nothing")
  np.savez(tmp_path / "other.npz", a=np.zeros(3))
  np.savez(tmp_path / "floats.npz", names=np.array(["a"]), p0=np.zeros(3))
  with open(tmp_path / "single.npz", "wb") as stream:
    np.save(stream, np.zeros(3))
  for name in ("text.npz", "other.npz", "floats.npz", "single.npz", "none.npz"):
    with pytest.raises(InputError, match=rf"{name} is not a file of fingerprints"):
      fingerprint.load(tmp_path / name)


def test_a_damaged_file_is_noticed_wherever_it_is_damaged(tmp_path):
  path, rng = tmp_path / "list.npz", np.random.default_rng(0)
  fingerprint.save(
    path, {"a": np.arange(500, dtype=np.uint32), "b": rng.integers(0, 99, 500, dtype=np.uint32)}
  )
  content = path.read_bytes()
  damaged = [content[:size] for size in range(0, len(content), 97)]
  for position in rng.integers(0, len(content), 100):
    damaged.append(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
  for broken in damaged:
    path.write_bytes(broken)
    try:
      assert list(fingerprint.load(path)) == ["a", "b"]  # what was hit does not matter
    except InputError:
      pass
