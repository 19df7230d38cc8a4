"""How long a training step takes by data sheets: arithmetic over peak, bytes sent over bandwidth."""

import dataclasses
from collections.abc import Sequence

from singsong_jax.training.accelerators import Accelerator
from singsong_jax.training.collectives import Collective

# Operations done for each one needed, by `TransformerConfig.remat`: 'full' repeats the forward pass.
RECOMPUTATION = {"none": 1.0, "minimal": 1.0, "full": 4 / 3}


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Seconds of a step.

  Attributes:
    compute_seconds: of the arithmetic.
    collective_seconds: of sending, by rings over all links of a chip at once.
    least_seconds: if all sending is hidden behind arithmetic, or the reverse.
    most_seconds: if none is.
  """

  compute_seconds: float
  collective_seconds: float
  least_seconds: float
  most_seconds: float


def predict(
  step_flops: float,
  num_devices: int,
  accelerator: Accelerator,
  collectives: Sequence[Collective],
  *,
  efficiency: float,
  recomputation: float = 1.0,
) -> Prediction | None:
  """Predicts a step; None where something is sent over a network whose speed is not known.

  Memory traffic is not modelled: `efficiency` stands for it, and for everything else that keeps matrix units
  waiting.

  Args:
    step_flops: the model's own operations of a step, on all devices together.
    num_devices: they share the work evenly.
    accelerator: one of them.
    collectives: of a step, see `collectives.collectives`.
    efficiency: share of the peak that the arithmetic reaches.
    recomputation: operations done for each one that is needed.
  """
  compute = step_flops * recomputation / (num_devices * accelerator.peak_flops * efficiency)
  sending = 0.0
  for collective in collectives:
    seconds = collective.sent_bytes / accelerator.link_bandwidth
    if collective.crossing_bytes:
      if accelerator.network_bandwidth is None:
        return None
      seconds = max(seconds, collective.crossing_bytes / accelerator.network_bandwidth)
    sending += seconds
  return Prediction(compute, sending, max(compute, sending), compute + sending)
