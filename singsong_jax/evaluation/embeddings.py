"""What turns a clip into vectors that distances are taken between.

What `--embedding` may say:

    logmel                              offline, needs nothing; never to be called FAD_VGGish
    vggish:vggish-10086976.pth          VGGish, weights brought by the user; settings follow: ,relu=True
    mert:SOURCE  encodec:SOURCE  clap:SOURCE        public weights: a folder or a name on a hub

An embedding is one file here and a line in `_EMBEDDINGS`.
"""

from typing import Any, Protocol

import numpy as np

from singsong_jax.audio.specs import construct, parse_spec
from singsong_jax.errors import InputError, did_you_mean
from singsong_jax.evaluation.vggish import NUM_BANDS, SAMPLE_RATE_HZ, make_patches


class Embedding(Protocol):
  """A clip → vectors.

  Attributes:
    name: what every number made with it is called by.
    sample_rate_hz: of the clips it hears.
  """

  @property
  def name(self) -> str: ...

  sample_rate_hz: int

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    """float `[samples]` → float32 `[vectors, d]`; none where the clip is too short."""

  def describe(self) -> dict[str, Any]:
    """As JSON: all that the vectors depend on besides the clip."""


class LogMelStatistics:
  """Mean and standard deviation of 64 log-mel bands over each 0.96 s: hears timbre and level, and no
  music.
  """

  name = "log-mel statistics"
  sample_rate_hz = SAMPLE_RATE_HZ

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    patches = make_patches(waveform)
    if not len(patches):
      return np.zeros((0, 2 * NUM_BANDS), np.float32)
    return np.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=1)

  def describe(self) -> dict[str, Any]:
    return {"name": self.name}


_HERE = "singsong_jax.evaluation"
_EMBEDDINGS = {
  "logmel": f"{_HERE}.embeddings:LogMelStatistics",
  "vggish": f"{_HERE}.vggish:Vggish.from_pretrained",
  "mert": f"{_HERE}.public_embeddings:Mert.from_pretrained",
  "encodec": f"{_HERE}.public_embeddings:Encodec.from_pretrained",
  "clap": f"{_HERE}.public_embeddings:Clap.from_pretrained",
}


def get_embedding(spec: str) -> Embedding:
  """The embedding of a spec. Raises InputError for an unknown name or setting, or weights that are missing
  or unfit.
  """
  flag = f"--embedding={spec}"
  name, source, settings = parse_spec(spec)
  if name not in _EMBEDDINGS:
    known = ", ".join(name if name == "logmel" else f"{name}:SOURCE" for name in _EMBEDDINGS)
    raise InputError(f"{flag}: it may be {known}{did_you_mean(name or spec, _EMBEDDINGS)}")
  if (name == "logmel") == bool(source):
    raise InputError(
      f"{flag}: {'it takes no source' if source else f'its weights are needed, {name}:SOURCE'}"
    )
  return construct(flag, _EMBEDDINGS[name], *([source] if source else []), **settings)
