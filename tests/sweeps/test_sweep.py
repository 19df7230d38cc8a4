"""The command with a launcher that pretends to train, and the scripts it writes with faked programs."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest

from singsong_jax.sweeps import launch
from singsong_jax.sweeps.evaluations import evaluations
from singsong_jax.sweeps.grid import load_sweep

ROOT = pathlib.Path(__file__).parent.parent.parent
LAUNCHER = """#!/usr/bin/env bash
for argument in "$@"; do
  case $argument in
    --model_dir=*) model_dir=${argument#*=} ;;
    --gin.TRAIN_STEPS=*) steps=${argument#*=} ;;
    --vocals=*) vocals=${argument#*=} ;;
  esac
done
echo "$*" >>"${0%/*}/calls"
[[ ! -e ${0%/*}/$vocals.fails ]] || exit 7
if [[ -e ${0%/*}/$vocals.waits ]]; then
  trap 'echo saved >"${0%/*}/saved"; exit 0' TERM
  touch "${0%/*}/waiting"
  while true; do sleep 0.02; done
fi
mkdir -p "$model_dir/checkpoints/$steps"
"""
SWEEP = """
model_dir = "{folder}/runs"
data_dir = "/data"
launcher = ["{folder}/train.sh"]
arguments = ["--multiprocess"]
[fixed]
total_steps = 4
[axes]
vocals = ["clean", "noisy"]
"""


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "train.sh").write_text(LAUNCHER)
  (tmp_path / "train.sh").chmod(0o755)
  (tmp_path / "sweep.toml").write_text(SWEEP.format(folder=tmp_path))
  return tmp_path


def start(folder, *arguments):
  command = [sys.executable, "-m", "singsong_jax.sweep", str(folder / "sweep.toml"), *arguments]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def call(folder, *arguments):
  process = start(folder, *arguments)
  output, errors = process.communicate(timeout=60)
  return process.returncode, output, errors


def calls(folder):
  return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def test_cells_run_in_turn_and_done_ones_are_skipped(folder):
  code, output, errors = call(folder, "--mode=run")
  assert code == 0 and "2 cells: 2 done" in output
  assert [line.split()[1] for line in calls(folder)] == ["--vocals=clean", "--vocals=noisy"]
  assert all(line.endswith(" --multiprocess") for line in calls(folder))
  code, output, errors = call(folder, "--mode=run")
  assert code == 0 and "2 of 2 cells are done" in errors and len(calls(folder)) == 2


def test_a_failed_cell_does_not_keep_the_next_from_running(folder):
  (folder / "clean.fails").touch()
  code, output, errors = call(folder, "--mode=run")
  assert code == 2
  assert "error: not finished: vocals=clean; the same command tries again" in errors
  assert "failed (7)" in output and "1 done, 1 failed" in output
  (folder / "clean.fails").unlink()
  assert call(folder, "--mode=run")[0] == 0
  assert len(calls(folder)) == 3


def test_sigterm_lets_the_cell_save_and_starts_no_other(folder):
  (folder / "clean.waits").touch()
  process = start(folder, "--mode=run")
  while process.poll() is None and not (folder / "waiting").exists():
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  assert (folder / "saved").exists() and len(calls(folder)) == 1
  assert "1 waiting, 1 stopped" in output and "goes on from here" in errors


EVALUATOR = """#!/usr/bin/env bash
for argument in "$@"; do
  [[ $argument != --output_dir=* ]] || folder=${argument#*=}
done
echo "$*" >>"${0%/*}/evaluations"
echo '{"rows": [{"system": "isolated", "frechet": 1.5, "embedding": "VGGish"}]}' >"$folder/results.json"
"""


def test_what_is_trained_is_evaluated_and_reported(folder):
  assert "has no table [evaluate]" in call(folder, "--evaluate")[2]
  (folder / "evaluate.sh").write_text(EVALUATOR)
  (folder / "evaluate.sh").chmod(0o755)
  text = f'evaluator = ["{folder}/evaluate.sh"]\n' + (folder / "sweep.toml").read_text()
  (folder / "sweep.toml").write_text(text + '[evaluate]\nsongs = "dev"\nembedding = "logmel"\nseed = 3\n')
  assert "none of the 2 cells of sweep is trained" in call(folder, "--evaluate")[2]
  runs = folder / "runs"
  (runs / "vocals=clean/checkpoints/4").mkdir(parents=True)
  (runs / "vocals=noisy/best").mkdir(parents=True)
  (runs / "vocals=noisy/ended_early.txt").touch()
  assert "vocals=clean: waiting" in call(folder, "--evaluate")[1] and not (folder / "evaluations").exists()
  code, output, _ = call(folder, "--evaluate", "--mode=run")
  assert code == 0 and "2 cells: 2 done" in output
  first, second = (folder / "evaluations").read_text().splitlines()
  songs = f"--songs={ROOT}/dev --embedding=logmel --seed=3"
  assert first == f"--model_dir={runs}/vocals=clean --output_dir={runs}/vocals=clean/evaluation {songs}"
  assert second == f"--model_dir={runs}/vocals=noisy/best --output_dir={runs}/vocals=noisy/evaluation {songs}"
  assert "2 of 2 cells are done" in call(folder, "--evaluate", "--mode=run")[2]
  assert "none of the 1 cells of sweep is trained" not in call(folder, "--evaluate", "--only=noisy")[2]
  code, output, _ = call(folder, f"--report={folder}/report")
  assert code == 0 and "2 of 2 cells have been evaluated" in output


def test_an_evaluation_that_cannot_be_started_or_is_not_the_users(folder):
  text = (folder / "sweep.toml").read_text()
  (folder / "sweep.toml").write_text(text + '[evaluate]\nsongs = "dev"\noutput_dir = "x"\n')
  assert "evaluate.output_dir is set by the sweep" in call(folder, "--evaluate")[2]
  (folder / "sweep.toml").write_text('evaluator = ["./nowhere"]\n' + text + '[evaluate]\nsongs = "dev"\n')
  (folder / "runs/vocals=noisy/checkpoints/4").mkdir(parents=True)
  assert "none of the 1 cells of sweep is trained" in call(folder, "--evaluate", "--only=clean")[2]
  code, output, errors = call(folder, "--evaluate", "--mode=run")
  assert code == 2 and "./nowhere cannot be started" in errors and "failed (127)" in output


def test_an_evaluation_is_one_task_that_is_never_queued_again(folder):
  with open(folder / "sweep.toml", "a") as file:
    file.write('[evaluate]\nsongs = "dev"\n')
  for vocals in ("clean", "noisy"):
    (folder / f"runs/vocals={vocals}/checkpoints/4").mkdir(parents=True)
  sweep = evaluations(load_sweep(str(folder / "sweep.toml")))
  assert slurm(folder, 0, {"srun": 'echo "$*" >>"${0%/*}/../srun"', "scontrol": RECORD}, sweep) == 0
  assert (folder / "srun").read_text().startswith("--ntasks=1 .venv/bin/python -m singsong_jax.evaluate --m")
  assert not (folder / "requeued").exists()


def test_print_and_status_start_nothing(folder):
  code, output, _ = call(folder)
  assert code == 0 and "# vocals=clean: waiting" in output and "--vocals=noisy" in output
  code, output, _ = call(folder, "--status", "--only=noi")
  assert code == 0 and "1 cells: 1 waiting" in output
  assert not calls(folder)


def test_shell_lines_run_from_anywhere(folder, tmp_path):
  _, lines, _ = call(folder, "--mode=shell")
  for line in lines.splitlines():
    subprocess.run(["bash", "-c", line], cwd="/", check=True)
  assert len(calls(folder)) == 2
  assert call(folder, "--mode=shell")[1].strip() == ""


def test_without_a_file_it_says_so(folder):
  (folder / "sweep.toml").unlink()
  assert "cannot read" in call(folder)[2]
  command = [sys.executable, "-m", "singsong_jax.sweep", "--status"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 2 and "error: an argument is missing" in result.stderr


def test_bad_arguments_are_one_line(folder):
  for arguments, message in [
    (["--only=("], "is not a regular expression"),
    (["--only=vocals=clear"], "found in no cell's name; did you mean vocals=clean?"),
    (["--data_dir=x=/y"], "write --data_dir=PATH"),
    (["--study=x"], "--study is for --report=OUT"),
    (["--evaluate", "--report=x"], "one after the other"),
    (["more.toml"], "unexpected argument 'more.toml'"),
  ]:
    code, _, errors = call(folder, *arguments)
    assert code == 2 and errors.startswith("error: ") and message in errors and len(errors.splitlines()) == 1


def slurm(folder, task, fakes, sweep=None):
  """Runs a task of the script with `fakes` (program → what it does) in the path."""
  sweep = sweep or load_sweep(str(folder / "sweep.toml"))
  (folder / "bin").mkdir()
  for name, text in fakes.items():
    (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / "bin" / name).chmod(0o755)
  (folder / "job.sh").write_text(launch.slurm_script(sweep, sweep.cells))
  environment = {
    "PATH": f"{folder}/bin:{os.environ['PATH']}",
    "SLURM_ARRAY_TASK_ID": str(task),
    "SLURM_ARRAY_JOB_ID": "55",
  }
  return subprocess.run(["bash", str(folder / "job.sh")], env=environment, check=False).returncode


RECORD = 'echo "$*" >>"${0%/*}/../requeued"'


def test_a_slurm_task_runs_its_cell_and_records_how_it_ended(folder):
  assert slurm(folder, 1, {"srun": '"$@"', "scontrol": RECORD}) == 0
  assert [line.split()[1] for line in calls(folder)] == ["--vocals=noisy"]
  assert "1 done" in call(folder, "--status")[1] and not (folder / "requeued").exists()


def test_a_slurm_task_that_fails_says_so(folder):
  assert slurm(folder, 0, {"srun": "exit 3", "scontrol": RECORD}) == 3
  assert "failed (3)" in call(folder, "--status")[1] and not (folder / "requeued").exists()


def test_a_slurm_task_that_saved_before_its_time_was_up_is_queued_again(folder):
  assert slurm(folder, 0, {"srun": "exit 0", "scontrol": RECORD}) == 0
  assert (folder / "requeued").read_text().strip() == "requeue 55_0"


def test_a_slurm_task_that_ended_early_is_not_queued_again(folder):
  early = 'touch "${0%/*}/../runs/vocals=clean/ended_early.txt"'
  assert slurm(folder, 0, {"srun": early, "scontrol": RECORD}) == 0
  assert not (folder / "requeued").exists()


def test_options_of_sbatch(folder):
  path = folder / "sweep.toml"
  path.write_text(
    path.read_text()
    + '[slurm]\nparallel = 3\nexclusive = true\nrequeue = false\ntime = "1:00:00"\ncomment = "two words"\n'
  )
  code, script, _ = call(folder, "--mode=slurm", f"--model_dir={folder}/my runs")
  lines = script.splitlines()
  assert code == 0
  for line in ("--array=0-1%3", "--exclusive", "--time=1:00:00", "--signal=TERM@120", "--job-name=sweep"):
    assert f"#SBATCH {line}" in lines
  assert "#SBATCH --comment='two words'" in lines  # sbatch splits at spaces, and knows quotes
  assert f"#SBATCH --output='{folder}/my runs/slurm-%A_%a.out'" in lines
  assert "requeue" not in "".join(line for line in lines if line.startswith("#SBATCH"))
  path.write_text(path.read_text().replace("exclusive", "array"))
  assert "slurm.array is set by the sweep" in call(folder, "--mode=slurm")[2]


def test_the_xmanager_script_adds_a_job_for_each_cell(folder):
  sweep = load_sweep(str(folder / "sweep.toml"))
  jobs, packaged = [], {}

  class Experiment:
    async def __aenter__(self):
      return self

    async def __aexit__(self, *_):
      pass

    def package(self, specs):
      return specs

    def add(self, job):
      jobs.append(job)

  class Vertex:
    def __init__(self, requirements): ...

    @staticmethod
    def Spec():
      return "spec"

  xm = types.SimpleNamespace(
    run_in_asyncio_loop=lambda f: lambda *args: _finish(f(*args)),
    JobRequirements=dict,
    CommandList=list,
    Job=dict,
    python_container=lambda spec, **settings: packaged.update(settings) or "executable",
  )
  xm_local = types.SimpleNamespace(create_experiment=lambda experiment_title: Experiment(), Vertex=Vertex)
  package = types.ModuleType("xmanager")
  package.xm, package.xm_local = xm, xm_local
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "xmanager", package)
    script = {"__name__": "script"}
    exec(compile(launch.xmanager_script(sweep, sweep.cells), "script", "exec"), script)
    script["main"](None)
  assert [job["args"] for job in jobs] == [[*cell.arguments, "--multiprocess"] for cell in sweep.cells]
  assert packaged["entrypoint"] == [f"{folder}/train.sh"]


def _finish(coroutine):
  with pytest.raises(StopIteration):
    coroutine.send(None)
