"""Making a study: `audio/`, whose files have random names, and `study.json`, which alone knows them."""

import dataclasses
import os
import pathlib
import secrets
from collections.abc import Iterator, Mapping

import numpy as np

from singsong_jax import files
from singsong_jax.audio.io import write_wav
from singsong_jax.errors import InputError
from singsong_jax.evaluation.clips import Clips, Mixes, read_clips
from singsong_jax.listening import tones
from singsong_jax.listening.trials import (
  NOISE,
  Planned,
  Settings,
  Study,
  ToneTrial,
  Trial,
  check_numbers,
  plan_checks,
  plan_trials,
)

MOST_PER_PAIR = 200  # the paper's
BITS = 16  # what every browser plays, in a file a phone loads soon
MAX_PEAK = 0.99
NOISE_FLOOR = 0.05  # RMS: a check must be heard where the instrumental is silent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
  """What is compared: vocals, and for each system the instrumentals made for them.

  Attributes:
    reference: the system that attention checks take for right.
    rate_hz: of all files written; mono. One rate and one length, for a file's size must not tell a system.
  """

  vocals: Clips
  systems: Mapping[str, Mixes]
  reference: str
  rate_hz: int

  def __post_init__(self):
    if self.reference not in self.systems:
      raise InputError(f"--reference={self.reference} is none of the systems: {', '.join(self.systems)}")
    if NOISE in self.systems:
      raise InputError(f"--instrumentals={NOISE}=…: this name is taken by the attention checks")


def make_study(
  folder: pathlib.Path, sources: Sources, settings: Settings, seed: int, per_pair: int | None = None
) -> Study:
  """Writes a study into a new or empty folder.

  Args:
    seed: of the plan and the noise. Names and ids are not drawn from it: a rater may know it.
    per_pair: trials for each pair of systems; None: one for each clip and order, 200 at most.

  Raises:
    InputError: a folder that is not empty, clips that do not belong together, numbers that cannot be had.
  """
  names = list(sources.vocals)
  per_pair = per_pair or min(MOST_PER_PAIR, 2 * len(names))
  planned = plan_trials(list(sources.systems), names, per_pair, seed)
  checks = plan_checks(sources.reference, names, settings.checks_per_rater, seed)
  check_numbers(planned, checks, settings)
  if any(files.make_folder(folder).iterdir()):
    raise InputError(f"{folder} is not empty; a study needs a folder of its own")
  audio = files.make_folder(folder / "audio")
  used = {(plan.clip, system) for plan in planned + checks for system in (plan.left, plan.right)}
  written: dict[tuple[str, str], str] = {}  # (clip, system, or "" for the vocals) → name of the file
  for clip, sounds in _sounds(sources, {check.clip for check in checks}, seed):
    for system in ("", *sources.systems, NOISE):
      if system == "" or (clip, system) in used:
        written[clip, system] = _write(audio, sounds[system], sources.rate_hz)
  tone_trials = [
    ToneTrial(id=_random_name(), file=_write(audio, tones.three_tones(*order), tones.RATE_HZ), quiet=order[0])
    for order in tones.orders(seed)
  ]
  for path in audio.iterdir():  # browsers are told these times, and the systems were written in turn
    os.utime(path, (0, 0))
  study = Study(
    systems=tuple(sources.systems),
    reference=sources.reference,
    seed=seed,
    settings=settings,
    trials=tuple(_trial(plan, written, 0) for plan in planned),
    checks=tuple(_trial(plan, written, -1 if plan.right == NOISE else 1) for plan in checks),
    tones=tuple(tone_trials),
  )
  study.write(folder)  # last: a folder without it is no study
  return study


def _sounds(sources: Sources, checked: set[str], seed: int) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
  """Each clip's vocals (under ""), mixes by system and, for a check, vocals with noise: mono, of one length,
  and scaled down together where one would clip.
  """
  readers = [mixes.read(sources.rate_hz) for mixes in sources.systems.values()]
  vocals = read_clips(sources.vocals, sources.rate_hz)
  for index, ((clip, voice), *mixes) in enumerate(zip(vocals, *readers, strict=True)):
    length = min(len(voice), *(len(mix) for _, mix in mixes))
    sounds = {"": voice[:length]}
    sounds |= {name: mix[:length] for name, (_, mix) in zip(sources.systems, mixes, strict=True)}
    if clip in checked:
      instrumental = sounds[sources.reference] - sounds[""]
      level = max(float(np.sqrt(np.mean(instrumental**2))), NOISE_FLOOR)
      noise = np.random.default_rng([seed, index]).uniform(-1, 1, length)
      sounds[NOISE] = sounds[""] + level * np.sqrt(3) * noise
    peak = max(float(np.abs(sound).max(initial=0.0)) for sound in sounds.values())
    gain = MAX_PEAK / peak if peak > 1 else 1.0
    yield clip, {name: gain * sound for name, sound in sounds.items()}


def _write(audio: pathlib.Path, waveform: np.ndarray, rate_hz: int) -> str:
  name = _random_name() + ".wav"
  write_wav(audio / name, waveform, rate_hz, BITS)
  return name


def _random_name() -> str:
  return secrets.token_hex(16)


def _trial(plan: Planned, written: Mapping[tuple[str, str], str], correct: int) -> Trial:
  return Trial(
    **dataclasses.asdict(plan),
    id=_random_name(),
    vocals_file=written[plan.clip, ""],
    left_file=written[plan.clip, plan.left],
    right_file=written[plan.clip, plan.right],
    correct=correct,
  )
