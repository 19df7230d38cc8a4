#!/usr/bin/env bash
# SingSong from a bare clone.
#
#   ./run_train.sh                      the demo: songs → Beam → tokens → training → accompaniment
#   ./run_train.sh --fresh              the same from the beginning, forgetting what is in demo/
#   ./run_train.sh --size=base --vocals=noisy --features=s_sa --data_dir=DATA --model_dir=MODEL
#   ./run_train.sh --system=fine --size=base --data_dir=DATA --model_dir=MODEL/fine
#                                       training runs: each --axis=value is the file gin/axis/value.gin, or
#                                       gin/axis/system/value.gin where the system has its own values,
#                                       and everything else goes to python -m singsong_jax.train as it is
#   ./run_train.sh --trainer=t5x …      the same with upstream t5x's trainer; docs/t5x.md
#   ./run_train.sh --setup_only         only make .venv and install
#
# Makes .venv with the system's Python 3.11 or 3.12 if there is none. pip's own configuration holds.
set -euo pipefail
# A training that saves and exits well when asked to stop must not let the demo's next command start.
trap 'exit 130' INT
trap 'exit 143' TERM
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf '\033[1m» %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }
show() { say "$(printf '%q ' "$@")"; }
run() { show "$@"; "$@"; }

find_python() {
  for candidate in python3 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "Python 3.11 or 3.12 is needed; python3 is $(python3 --version 2>&1 || true)"
}

hardware() {
  if command -v nvidia-smi >/dev/null; then echo gpu; elif [[ -e /dev/accel0 ]]; then echo tpu; else echo cpu; fi
}

# A machine with an accelerator gets jax for it.
[[ $(hardware) == cpu ]] || SINGSONG_EXTRAS=${SINGSONG_EXTRAS:+$SINGSONG_EXTRAS,}$(hardware)

# Installs once; again only when pyproject.toml or constraints.txt change or an extra is missing.
setup() {
  local python wanted stamp=".venv/installed${SINGSONG_EXTRAS:+.$SINGSONG_EXTRAS}"
  wanted=$(cat pyproject.toml constraints.txt | cksum)
  if cat "$stamp"* 2>/dev/null | grep -qxF "$wanted"; then
    return
  fi
  python=$(find_python)
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv ||
      fail "$python cannot make virtual environments; install its venv package (Debian: python3-venv)"
  fi
  say "installing the pinned versions of constraints.txt into .venv (about 3.5 GB; minutes the first time)"
  .venv/bin/python -m pip install --disable-pip-version-check --quiet \
    --constraint constraints.txt --config-settings editable_mode=compat --editable ".${SINGSONG_EXTRAS:+[$SINGSONG_EXTRAS]}"
  echo "$wanted" >"$stamp"
}

# A path as the caller meant it, though this script works in the repository; absolute where $absolute is set.
path() {
  [[ $1 != *\'* ]] || fail "$1: a path must not contain a quote"
  local given=${1/#\~\//$HOME/}
  [[ -n $given ]] || fail "a path is empty"
  [[ $given == /* || $given == *://* || ($caller == "$PWD" && -z ${absolute:-}) ]] || given=$caller/$given
  echo "$given"
}

# gin_file AXIS VALUE SYSTEM prints the file of a value; the system's own files are all it can choose from.
gin_file() {
  local folder=gin/$1
  [[ ! -d gin/$1/$3 ]] || folder=gin/$1/$3
  [[ -f $folder/$2.gin ]] ||
    fail "--$1=$2: there is no $folder/$2.gin; choose one of $(cd "$folder" && echo *.gin | sed 's/\.gin//g')"
  echo "$folder/$2.gin"
}

# Whether the system has an axis: of those that not every system has, its file names its own in a line `# axes: …`.
has_axis() {
  case $1 in codec | semantics | vocals | features) grep -Eq "^# axes:.* $1( |\$)" "gin/system/$2.gin" ;; esac
}

# The program a trainer is, and where it comes from if it is not ours.
module() { case $1 in t5x) echo t5x.train ;; t5x_*) echo "t5x.${1#t5x_}" ;; *) echo singsong_jax.train ;; esac; }
need_t5x() {
  .venv/bin/python - >/dev/null <<'PYTHON' || fail "upstream t5x is not installed in .venv; docs/t5x.md says how"
import importlib.util, pathlib, sys
found = importlib.util.find_spec("t5x")  # the package index has an empty placeholder of that name
sys.exit(not found or not pathlib.Path(found.submodule_search_locations[0], "train.py").exists())
PYTHON
}

# Prints Python's arguments, one a line: the program, a gin file for each axis, then the rest.
compose() {
  local -A axis=([system]=singsong [codec]=soundstream [semantics]=w2v_bert [size]=base [vocals]=noisy [features]=s_sa
                 [hardware]=$(hardware) [trainer]=native [run]=train) given=()
  local rest=() argument name value file absolute=
  [[ " $*" != *" --trainer=t5x"* ]] || absolute=1 # upstream takes no others
  for argument in "$@"; do
    name=${argument%%=*} name=${name#--} value=${argument#*=}
    [[ $argument != --* || -z ${axis[${name:-none}]:-} || $argument == *=* ]] || fail "write $argument=<value>"
    if [[ $argument == --?*=* && -n ${axis[$name]:-} ]]; then
      axis[$name]=$value given[$name]=1
    elif [[ $argument =~ ^--(model_dir|data_dir|checkpoint_path|output_dir)= ]]; then
      value=$(path "$value") || exit
      rest+=("--gin.${name^^}='$value'")
    else
      rest+=("$argument")
    fi
  done
  if [[ " $* " == *" --dry_run "* ]]; then # it reads and writes nothing, and gin wants a value all the same
    [[ " $*" == *" --model_dir="* ]] || rest+=(--gin.MODEL_DIR=unused)
    [[ " $*" == *" --data_dir="* ]] || rest+=(--gin.DATA_DIR=unused)
  fi
  echo -m
  module "${axis[trainer]}"
  for name in system codec semantics size vocals features hardware trainer run; do
    if has_axis "$name" "${axis[system]}"; then
      file=$(gin_file "$name" "${axis[$name]}" "${axis[system]}") || exit
      echo "--gin_file=$file"
    elif [[ -n ${given[$name]:-} ]]; then
      fail "--$name=${axis[$name]}: --system=${axis[system]} has no $name"
    fi
  done
  if ((${#rest[@]})); then printf '%s\n' "${rest[@]}"; fi
}

# Sets `command` to the training the arguments stand for.
train_command() {
  local arguments
  arguments=$(compose "$@") # on its own line, so that a failure ends the script
  mapfile -t arguments <<<"$arguments"
  command=(.venv/bin/python "${arguments[@]}")
}

# Each of the six commands continues where it stopped, so the whole does.
demo() {
  setup
  local python=.venv/bin/python started=$SECONDS
  caller=$PWD # its folder is in the repository, whoever calls
  if [[ ${1:-} == --fresh ]]; then
    run rm -rf demo
  fi
  run $python -m data_pipelines.synthesize --output_dir=demo/corpus --num_songs=40 --song_seconds=20 --seed=0
  run $python -m data_pipelines.synthesize --output_dir=demo/unheard --num_songs=1 --song_seconds=10 --seed=1000
  run $python -m data_pipelines.prepare --songs=demo/corpus/songs --output_dir=demo/data
  train_command --size=tiny --run=demo --hardware=cpu --data_dir=demo/data --model_dir=demo/model
  run "${command[@]}"
  train_command --system=fine --size=tiny --run=demo --hardware=cpu --data_dir=demo/data \
    --model_dir=demo/model/fine
  run "${command[@]}"
  run $python -m singsong_jax.infer --vocals=demo/unheard/stems/song_00000/vocals.wav \
    --model_dir=demo/model --output_dir=demo/output
  say "done in $((SECONDS - started)) s: listen to demo/output/mix.wav, look at demo/output/picture.png"
  say "curves and audio: .venv/bin/tensorboard --logdir=demo/model/tensorboard"
}

case ${1:-} in
  -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' run_train.sh ;;
  --setup_only) setup ;;
  "" | --fresh)
    (($# < 2)) || fail "--fresh is for the demo, which takes nothing else; got ${*:2}"
    demo "$@"
    ;;
  *)
    train_command "$@" # before minutes of installing
    setup
    [[ ${command[2]} != t5x.* ]] || need_t5x
    show "${command[@]}"
    exec "${command[@]}" # so that signals meant for the training reach it
    ;;
esac
