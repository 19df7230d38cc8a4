import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from singsong_jax.audio.io import write_wav
from singsong_jax.audio.separation.base import Clip, get_separator
from singsong_jax.audio.separation.repet import RepetSeparator
from singsong_jax.audio.separation.simulated import SimulatedSeparator
from singsong_jax.audio.synthesis import synthesize_song
from singsong_jax.errors import InputError

RATE_HZ = 44_100


def sdr_db(true, estimate):
  return 10 * np.log10(np.sum(true**2) / np.sum((true - estimate) ** 2))


def clip_of(mix, song="song", offset_seconds=0.0, rate_hz=RATE_HZ):
  return Clip(mix=mix, sample_rate_hz=rate_hz, song=song, offset_seconds=offset_seconds)


@pytest.fixture(scope="module")
def song():
  return synthesize_song(seed=1, seconds=10)


@pytest.fixture(scope="module")
def stems_dir(tmp_path_factory, song):
  folder = tmp_path_factory.mktemp("stems")
  for stem in ("vocals", "instrumental"):
    write_wav(folder / "song" / f"{stem}.wav", getattr(song, stem), RATE_HZ)
  return folder


@pytest.mark.slow
def test_repet_finds_most_of_the_voice(song):
  vocals = get_separator("repet").separate([clip_of(song.mix)])[0]
  assert vocals.dtype == np.float32 and vocals.shape == song.mix.shape
  assert sdr_db(song.vocals, vocals) > sdr_db(song.vocals, song.mix) + 4
  assert sdr_db(song.instrumental, song.mix - vocals) > 4


@pytest.mark.parametrize("num_samples", [1, 1_000, 4_410, 50_000])
def test_repet_takes_short_clips(song, num_samples):
  mix = song.mix[30_000 : 30_000 + num_samples]
  vocals = RepetSeparator().separate([clip_of(mix)])[0]
  assert vocals.shape == mix.shape and np.isfinite(vocals).all()


def test_repet_keeps_silence():
  assert not RepetSeparator().separate([clip_of(np.zeros(RATE_HZ, np.float32))]).any()


def test_simulated_vocals_are_close_and_their_bleed_is_where_it_should_be(song, stems_dir):
  separator = SimulatedSeparator(stems_dir, bleed_db=(-30, -30))
  vocals = separator.separate([clip_of(song.mix, song="/songs/song.wav")])[0]
  assert vocals.dtype == np.float32 and vocals.shape == song.mix.shape
  assert sdr_db(song.vocals, vocals) > 15
  silent = slice(0, round(song.annotation["notes"][0]["start_seconds"] * RATE_HZ) - 2_048)
  assert not song.vocals[silent].any()
  whole = SimulatedSeparator(stems_dir, bleed_db=(-300, -300))
  bleed = vocals - whole.separate([clip_of(song.mix)])[0]
  level_db = 10 * np.log10(np.mean(bleed**2) / np.mean(song.instrumental**2))
  assert -45 < level_db < -30  # Below −30 by what the band leaves out (bass, kick).


def test_simulated_vocals_depend_on_song_and_offset_only(song, stems_dir):
  separator = SimulatedSeparator(stems_dir)
  half = len(song.mix) // 2
  clip = clip_of(song.mix[half:], offset_seconds=5.0)
  first, again = separator.separate([clip, clip])
  np.testing.assert_array_equal(first, again)
  assert sdr_db(song.vocals[half:], first) > 12  # The second half of the stem, not the first.


def test_simulated_pads_past_the_end(song, stems_dir):
  mix = np.concatenate([song.mix[-1_000:], np.zeros(9_000, np.float32)])
  clip = clip_of(mix, offset_seconds=(len(song.mix) - 1_000) / RATE_HZ)
  assert SimulatedSeparator(stems_dir).separate([clip]).shape == (1, 10_000)


def test_missing_stems_and_wrong_rates_are_named(song, stems_dir):
  separator = SimulatedSeparator(stems_dir)
  with pytest.raises(InputError, match=r"other/vocals\.wav"):
    separator.separate([clip_of(song.mix, song="other")])
  with pytest.raises(InputError, match=r"vocals\.wav has 44100 Hz, its song 16000 Hz"):
    separator.separate([clip_of(song.mix, rate_hz=16_000)])


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("demcus:x", r"--separator=demcus:x: it may be repet, isolated, mdx:SOURCE, .*; did you mean demucs\?"),
    ("repet:x", "repet takes no source"),
    ("simulated", "simulated needs a source, simulated:SOURCE"),
    ("repet,lag=3", "there is no such setting: 'lag'"),
  ],
)
def test_impossible_separators(spec, message):
  with pytest.raises(InputError, match=message):
    get_separator(spec)


def test_settings_follow_the_name(stems_dir):
  assert get_separator("repet,min_lag_seconds=1.0").describe()["min_lag_seconds"] == 1.0
  assert get_separator(f"simulated:{stems_dir}").describe()["stems_dir"] == str(stems_dir)


def test_isolated_gives_the_true_vocals_back(song):
  separator = get_separator("isolated")
  clip = dataclasses.replace(clip_of(song.mix), vocals=song.vocals)
  np.testing.assert_array_equal(separator.separate([clip])[0], song.vocals)
  with pytest.raises(InputError, match="song came without stems"):
    separator.separate([clip_of(song.mix)])


def test_librosa_is_not_imported_before_it_is_needed():
  code = "import sys, singsong_jax.audio.separation.repet as _; assert 'librosa' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], check=True)
