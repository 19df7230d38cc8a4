"""A listening study: which of two accompaniments fits the singing better? (SingSong §5)

  python -m singsong_jax.study make STUDY --vocals=VOCALS --instrumentals=truth=TRUE --instrumentals=ours=OURS
  python -m singsong_jax.study serve STUDY [--host=0.0.0.0 --port=8000]
  python -m singsong_jax.study export STUDY --output=answers.csv
  python -m singsong_jax.study analyse STUDY|answers.csv --output_dir=OUT [--exclude_failed_checks]

STUDY is a folder. `make` mixes every instrumental with the vocals of the same name; `serve` asks raters and
may be stopped and started at any time; docs/listening_study.md says what is asked and what is stored.
"""

import pathlib

from absl import flags

from singsong_jax import cli, files
from singsong_jax.errors import InputError, did_you_mean
from singsong_jax.evaluation.clips import Mixes, find_clips, named_folders
from singsong_jax.listening import analysis, report
from singsong_jax.listening.making import Sources, make_study
from singsong_jax.listening.trials import Settings

_VOCALS = flags.DEFINE_string("vocals", None, "make: folder of isolated vocals: NAME.wav, or NAME/vocals.wav")
_INSTRUMENTALS = flags.DEFINE_multi_string(
  "instrumentals", [], "make: NAME=FOLDER: instrumentals named like the vocals, or what infer wrote"
)
_REFERENCE = flags.DEFINE_string(
  "reference", None, "make: the system that attention checks take for right (default: the first)"
)
_TRIALS_PER_PAIR = flags.DEFINE_integer(
  "trials_per_pair",
  None,
  "make: for every two systems (default: two for each clip, 200 at most)",
  lower_bound=1,
)
_TRIALS_PER_RATER = flags.DEFINE_integer("trials_per_rater", 20, "make: besides the checks", lower_bound=1)
_CHECKS_PER_RATER = flags.DEFINE_integer("checks_per_rater", 2, "make: attention checks", lower_bound=0)
_REQUIRE_HEADPHONES = flags.DEFINE_bool(
  "require_headphones", False, "make: turn away who fails the headphone check"
)
_LISTEN_SECONDS = flags.DEFINE_float(
  "listen_seconds", 3.0, "make: to be heard of each option before it can be answered", lower_bound=0.0
)
_CONTACT = flags.DEFINE_string("contact", "", "make: whom raters can ask, shown on the first page")
_SAMPLE_RATE = flags.DEFINE_integer(
  "sample_rate_hz", 44_100, "make: of all audio", lower_bound=8_000, upper_bound=48_000
)
_SEED = flags.DEFINE_integer("seed", 0, "make: of the trials", lower_bound=0, upper_bound=2**31)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "serve: the address to listen at; 0.0.0.0: at all of them")
_PORT = flags.DEFINE_integer("port", 8000, "serve: 0: any that is free", lower_bound=0, upper_bound=65535)
_OUTPUT = flags.DEFINE_string("output", None, "export: the CSV file")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "analyse: folder for the results")
_EXCLUDE_FAILED_CHECKS = flags.DEFINE_bool(
  "exclude_failed_checks", False, "analyse: leave out raters who failed an attention check"
)


def main(argv: list[str]) -> None:
  commands = {"make": _make, "serve": _serve, "export": _export, "analyse": _analyse}
  name, place = argv[1:]
  if name not in commands:
    raise InputError(f"no command {name!r}: there are {', '.join(commands)}{did_you_mean(name, commands)}")
  commands[name](pathlib.Path(place))


def _make(folder: pathlib.Path) -> None:
  vocals = find_clips(_required(_VOCALS), "vocals")
  systems = {
    name: Mixes.pair(vocals, find_clips(place), f"--instrumentals={name}={place}")
    for name, place in named_folders(_required(_INSTRUMENTALS)).items()
  }
  sources = Sources(
    vocals=vocals,
    systems=systems,
    reference=_REFERENCE.value or next(iter(systems)),
    rate_hz=_SAMPLE_RATE.value,
  )
  settings = Settings(
    trials_per_rater=_TRIALS_PER_RATER.value,
    checks_per_rater=_CHECKS_PER_RATER.value,
    require_headphones=_REQUIRE_HEADPHONES.value,
    listen_seconds=_LISTEN_SECONDS.value,
    contact=_CONTACT.value,
  )
  study = make_study(folder, sources, settings, _SEED.value, _TRIALS_PER_PAIR.value)
  print(f"{len(study.trials)} trials of {len(systems)} systems and {len(vocals)} clips in {folder}")


def _serve(folder: pathlib.Path) -> None:
  try:
    from singsong_jax.listening import server  # the extra `study`: the other commands do without
  except ImportError as error:
    raise InputError(
      f"serve needs Starlette and uvicorn ({error}): pip install 'singsong_jax[study]'"
    ) from error
  server.serve(folder, _HOST.value, _PORT.value)


def _export(folder: pathlib.Path) -> None:
  path = pathlib.Path(_required(_OUTPUT))
  rows = analysis.stored(folder)
  if not rows and path.exists():
    raise InputError(f"{folder} has no answers yet: --output={path} is left as it is")
  files.write_text(path, analysis.to_csv(rows))
  print(f"{len(rows)} answers in {path}" + ("" if rows else ": only the names of the columns"))


def _analyse(place: pathlib.Path) -> None:
  output = files.make_folder(_required(_OUTPUT_DIR))
  files.claim(output, {"answers": str(place.absolute())})  # not over what judge or evaluate found
  results = analysis.analyse(analysis.read_answers(place), _EXCLUDE_FAILED_CHECKS.value)
  print(report.markdown(results))
  for path in report.write(results, output):
    print(f"wrote {path}")


def _required(holder: flags.FlagHolder):
  if not holder.value:
    raise InputError(f"--{holder.name} is missing; --help shows how to call this command")
  return holder.value


if __name__ == "__main__":
  cli.run(main, takes_files=2)
