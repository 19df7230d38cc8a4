"""What a person sees of a run: a bar with an ETA, or lines where there is no terminal."""

import sys

import jax


class Progress:
  """Progress of the steps `done … total`, shown by process 0 on stderr."""

  def __init__(self, total: int):
    self._speaks = jax.process_index() == 0
    self._total = total
    self._bar = None

  def start(self, done: int) -> None:
    if self._speaks and sys.stderr.isatty():
      from tqdm import tqdm  # a GPU image may lack it; without a terminal nobody misses it

      self._bar = tqdm(total=self._total, initial=done, unit="step", desc="training", dynamic_ncols=True)

  def say(self, text: str) -> None:
    if self._speaks:
      if self._bar is not None:
        self._bar.write(text, file=sys.stderr)
      else:
        print(text, file=sys.stderr, flush=True)

  def advance(self) -> None:
    if self._bar is not None:
      self._bar.update()

  def report(self, step: int, means: dict[str, float]) -> None:
    """Shows loss, accuracy and speed; the bar has the ETA, a line needs it said."""
    parts = [f"{name} {means[name]:.4f}" for name in ("loss", "accuracy") if name in means]
    rate = means.get("steps_per_second")
    if self._bar is not None:
      self._bar.set_postfix_str(", ".join(parts))
      return
    if rate:
      parts.append(f"{rate:.2f} steps/s, {_clock((self._total - step) / rate)} left")
    self.say(f"step {step}/{self._total}  " + ", ".join(parts))

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
