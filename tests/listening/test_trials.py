"""The plan: balanced, seeded, refused where it cannot be; and the folder that is made of it."""

import collections
import itertools
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from singsong_jax.errors import InputError
from singsong_jax.evaluation.clips import Mixes, find_clips
from singsong_jax.listening import tones
from singsong_jax.listening.making import Sources, make_study
from singsong_jax.listening.trials import (
  NOISE,
  Planned,
  Settings,
  Study,
  check_numbers,
  plan_checks,
  plan_trials,
)


@st.composite
def plans(draw):
  systems = [f"system {i}" for i in range(draw(st.integers(2, 6)))]
  clips = [f"clip {i}" for i in range(draw(st.integers(1, 40)))]
  per_pair = draw(st.integers(1, 2 * len(clips)))
  return systems, clips, per_pair, draw(st.integers(0, 1000))


@given(plans())
def test_plans_are_balanced(plan):
  systems, clips, per_pair, seed = plan
  trials = plan_trials(systems, clips, per_pair, seed)
  of_pair = collections.Counter(frozenset((trial.left, trial.right)) for trial in trials)
  assert of_pair == {frozenset(pair): per_pair for pair in itertools.combinations(systems, 2)}
  for one, other in itertools.combinations(systems, 2):
    own = [trial for trial in trials if {trial.left, trial.right} == {one, other}]
    assert abs(2 * sum(trial.left == one for trial in own) - per_pair) <= 1
    heard = collections.Counter(trial.clip for trial in own)
    assert max(heard.values()) - min(heard.get(clip, 0) for clip in clips) <= 1
  heard = collections.Counter(trial.clip for trial in trials)
  assert max(heard.values()) - min(heard.get(clip, 0) for clip in clips) <= 1
  assert len(set(trials)) == len(trials)


@given(plans())
def test_a_seed_gives_one_plan(plan):
  assert plan_trials(*plan) == plan_trials(*plan)


def test_other_seeds_give_other_plans():
  systems, clips = ["a", "b", "c"], [str(index) for index in range(20)]
  made = {tuple(plan_trials(systems, clips, 20, seed)) for seed in range(20)}
  assert len(made) == 20
  # The order of the options says nothing about the clip: both orders occur for it
  orders = {plan[0].left for plan in (sorted(plan, key=lambda t: (t.clip, t.right)) for plan in made)}
  assert len(orders) > 1


def test_checks_have_no_preferred_side():
  checks = plan_checks("truth", [str(index) for index in range(11)], 6, 0)
  assert len({check.clip for check in checks}) == 10
  assert collections.Counter(check.left for check in checks) == {"truth": 5, NOISE: 5}
  assert plan_checks("truth", ["1", "2"], 0, 0) == []


def test_raters_get_different_checks_whose_sides_go_by_turns(make):
  _, study = make()
  of_rater = [study.checks_of(f"rater {index}") for index in range(60)]
  assert {len(set(checks)) for checks in of_rater} == {2}
  assert all(sum(check.correct for check in checks) == 0 for checks in of_rater)
  assert {check.clip for checks in of_rater for check in checks} == {f"song {index}" for index in range(6)}
  assert study.checks_of("rater 0") == of_rater[0]


def test_numbers_leave_every_rater_enough_trials():
  """Clips may have different numbers of trials: the rater whose checks take most of them counts."""
  trials = [Planned(clip=clip, left="a", right=f"b{index}") for index, clip in enumerate("1122344")]
  checks = [Planned(clip=clip, left="a", right=NOISE) for clip in "1234"]
  check_numbers(trials, checks, Settings(trials_per_rater=3, checks_per_rater=2))
  with pytest.raises(InputError, match="=4: the study has only 7 trials, and 3 without the clips of"):
    check_numbers(trials, checks, Settings(trials_per_rater=4, checks_per_rater=2))
  check_numbers(trials, [], Settings(trials_per_rater=7, checks_per_rater=0))


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 601.0])
def test_listening_that_cannot_be_done(make, seconds):
  with pytest.raises(InputError, match=r"--listen_seconds=.*: give 0 to 600 seconds"):
    Settings(listen_seconds=seconds)
  folder, _ = make()
  path = folder / "study.json"
  found = json.loads(path.read_text())
  found["settings"]["listen_seconds"] = seconds
  path.write_text(json.dumps(found))
  with pytest.raises(InputError, match=r"study\.json is not a study of this version: --listen_seconds"):
    Study.read(folder)


@pytest.mark.parametrize(
  ("systems", "clips", "per_pair", "message"),
  [(1, 3, 2, "--instrumentals twice or more"), (2, 3, 7, "3 clips give 1 to 6"), (2, 3, 0, "1 to 6")],
)
def test_plans_that_cannot_be(systems, clips, per_pair, message):
  with pytest.raises(InputError, match=message):
    plan_trials(list("abc"[:systems]), list("123"[:clips]), per_pair, 0)


def test_a_study_has_the_sounds_it_says(make, sources):
  folder, study = make(per_pair=12)
  assert len(study.trials) == 3 * 12 and len(study.checks) == 6
  for trial in study.trials[:6]:
    voice, left = (
      soundfile.read(folder / "audio" / name)[0] for name in (trial.vocals_file, trial.left_file)
    )
    true, _ = soundfile.read(sources.systems[trial.left].instrumentals[trial.clip])
    np.testing.assert_allclose(left - voice, true, atol=1e-4)
  for check in study.checks:
    wrong, right = (check.left_file, check.right_file)[:: 1 if check.correct > 0 else -1]
    assert {check.left, check.right} == {"truth", NOISE}
    flat = [flatness(soundfile.read(folder / "audio" / name)[0]) for name in (wrong, right)]
    assert flat[0] > 10 * flat[1]
  assert Study.read(folder) == study


def flatness(waveform):
  power = np.abs(np.fft.rfft(waveform)) ** 2 + 1e-9
  return np.exp(np.log(power).mean()) / power.mean()


def test_files_tell_nothing(make):
  folder, study = make(seed=1)
  _, again = make(seed=1)
  found = [path for path in (folder / "audio").iterdir()]
  assert {path.name for path in found} == study.audio_names()
  sizes = {soundfile.info(path).frames for path in found if soundfile.info(path).channels == 1}
  assert len(sizes) == 1
  assert {path.stat().st_mtime for path in found} == {0}
  # The same plan, other names: who knows the seed does not know the files
  plan = [(trial.clip, trial.left, trial.right) for trial in study.trials]
  assert plan == [(trial.clip, trial.left, trial.right) for trial in again.trials]
  assert not study.audio_names() & again.audio_names()
  assert not {trial.id for trial in study.trials} & {trial.id for trial in again.trials}


def test_a_clip_that_would_clip_is_scaled_as_a_whole(tmp_path):
  rate = 16_000
  for name, levels in {"vocals": (0.4, 0.4), "loud": (0.9, 0.3), "soft": (0.1, 0.1)}.items():
    (tmp_path / name).mkdir()
    for clip, level in zip(("hot", "cool"), levels, strict=True):
      soundfile.write(tmp_path / name / f"{clip}.wav", np.full(rate, level), rate)
  vocals = find_clips(tmp_path / "vocals")
  systems = {name: Mixes.pair(vocals, find_clips(tmp_path / name), name) for name in ("loud", "soft")}
  sources = Sources(vocals=vocals, systems=systems, reference="loud", rate_hz=rate)
  study = make_study(tmp_path / "study", sources, Settings(trials_per_rater=2, checks_per_rater=0), seed=0)
  peaks = {}
  for trial in study.trials:
    for system, name in (
      ("", trial.vocals_file),
      (trial.left, trial.left_file),
      (trial.right, trial.right_file),
    ):
      peaks[trial.clip, system] = np.abs(soundfile.read(tmp_path / "study" / "audio" / name)[0]).max()
  gain = 0.99 / 1.3
  expected = {("hot", ""): 0.4 * gain, ("hot", "loud"): 0.99, ("hot", "soft"): 0.5 * gain}
  expected |= {("cool", ""): 0.4, ("cool", "loud"): 0.7, ("cool", "soft"): 0.5}
  assert peaks == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_made(make, sources, tmp_path):
  with pytest.raises(InputError, match="--trials_per_rater=99: the study has only 36 trials, and 24 without"):
    make(trials_per_rater=99)
  with pytest.raises(InputError, match="--checks_per_rater=7: 6 clips give 0 to 5"):
    make(checks_per_rater=7)
  with pytest.raises(InputError, match="--checks_per_rater=6: 6 clips give 0 to 5"):
    make(checks_per_rater=6)
  (tmp_path / "something").touch()
  with pytest.raises(InputError, match="is not empty"):
    make_study(tmp_path, sources, Settings(trials_per_rater=1), 0)
  with pytest.raises(InputError, match="--reference=best is none of the systems: truth, ours, random"):
    Sources(vocals=sources.vocals, systems=sources.systems, reference="best", rate_hz=16_000)
  with pytest.raises(InputError, match="this name is taken"):
    Sources(vocals=sources.vocals, systems={NOISE: sources.systems["ours"]}, reference=NOISE, rate_hz=16_000)


@pytest.mark.parametrize("change", [{"format": 2}, {"trials": [{}]}, {"settings": {"x": 1}}, {"more": 1}])
def test_a_study_of_another_version(make, change):
  folder, _ = make()
  path = folder / "study.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(InputError, match="is not a study of this version"):
    Study.read(folder)


def test_the_headphone_check_is_woods():
  assert sorted(tones.orders(0)) == sorted(itertools.permutations(range(3), 2))
  assert tones.orders(0) == tones.orders(0)
  sound = tones.three_tones(quiet=2, opposite=0)
  assert sound.dtype == np.float32 and sound.shape == (2, 4 * tones.RATE_HZ)
  starts = [0, round(1.5 * tones.RATE_HZ), 3 * tones.RATE_HZ]
  left, right = ([channel[start : start + tones.RATE_HZ] for start in starts] for channel in sound)
  np.testing.assert_array_equal(left[0], -right[0])
  np.testing.assert_array_equal(left[1], right[1])
  np.testing.assert_array_equal(left[2], right[2])
  level = [20 * np.log10(np.sqrt(np.mean(tone**2))) for tone in left]
  assert level[0] - level[1] == pytest.approx(0, abs=1e-3) and level[2] - level[1] == pytest.approx(
    -6, abs=1e-3
  )
  assert np.argmax(np.abs(np.fft.rfft(left[1]))) == 200  # 1 s: bins of 1 Hz
  assert np.abs(sound[:, tones.RATE_HZ : starts[1]]).max() == 0
