"""A codec of other sizes, and other semantic codes, by one gin file each: from songs to inference.

75 Hz × 8 levels × 64 codes at 24 kHz beside 25 Hz × 32 codes at 16 kHz. The chain has clips of 0.4 s.
"""

import pathlib
import warnings

import gin
import numpy as np
import pytest
import soundfile

from singsong_jax import cli
from singsong_jax.errors import InputError

ROOT = pathlib.Path(__file__).parent.parent
CODEC = """
import data_pipelines.job
import singsong_jax.code_sizes

Settings.codec = 'mdct,sample_rate_hz=24_000,hop_samples=320,num_levels=8,num_codes=64,sweep_seconds=1'
Settings.window_seconds = %WINDOW_SECONDS
WINDOW_SECONDS = 10.0

Geometry.sample_rate_hz = 24_000
Geometry.acoustic_rate_hz = 75.0
Geometry.num_acoustic_levels = 8
Geometry.window_seconds = %WINDOW_SECONDS
Vocabulary.num_acoustic_codes = 64
Vocabulary.num_coarse_levels = 4
fine_layout.chunk_seconds = 3.0
"""
SEMANTICS = """
import data_pipelines.job
import singsong_jax.code_sizes

Settings.semantics = 'logmel,num_codes=32'
Geometry.semantic_rate_hz = 25.0
Vocabulary.num_semantic_codes = 32
"""
SHARED = ["hardware/cpu", "trainer/native"]
AXES = {
  "singsong": ["system/singsong", "size/tiny", "vocals/noisy", "features/sa_sa", "run/smoke", *SHARED],
  "fine": ["system/fine", "size/fine/tiny", "run/fine/smoke", *SHARED],
}
SHORT = [
  "WINDOW_SECONDS = 0.4",
  "fine_layout.chunk_seconds = 0.2",
  "TRAIN_STEPS = 2",
  "AudioSamples.num_samples = 0",
]
SIZES = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16, "num_decoder_layers": 1}
TINY = {
  "singsong": [f"EncoderDecoderConfig.{n} = {v}" for n, v in (SIZES | {"num_encoder_layers": 1}).items()],
  "fine": [f"DecoderOnlyConfig.{n} = {v}" for n, v in SIZES.items()],
}


class HalfSeparator:
  """Everything is half voice."""

  name = "half"
  batch_clips = 1

  def separate(self, clips):
    return np.stack([clip.mix / 2 for clip in clips])


@pytest.fixture(scope="module")
def swap(tmp_path_factory):
  """`swap(system, *bindings)` parses gin: the system's axes, and the files of the other tokenisers."""
  folder = tmp_path_factory.mktemp("gin")
  files = {"codec": CODEC, "semantics": SEMANTICS}
  for name, text in files.items():
    (folder / f"{name}.gin").write_text(text)

  def parse(system, *bindings, codec=True):
    gin.clear_config()
    swapped = [str(folder / f"{name}.gin") for name in files if codec or name != "codec"]
    axes = [str(ROOT / f"gin/{axis}.gin") for axis in AXES[system]]
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of TensorFlow's import
      cli.parse_gin([*axes, *swapped], bindings)

  yield parse
  gin.clear_config()


def macro(name):
  return gin.query_parameter(f"{name}/gin.macro.value").scoped_configurable_fn()


@pytest.fixture(scope="module")
def chain(swap, tmp_path_factory):
  """Prepares and trains both stages; the folder with `data` and `model`."""
  folder = tmp_path_factory.mktemp("chain")
  rng = np.random.default_rng(0)
  (folder / "songs").mkdir()
  for i in range(4):
    soundfile.write(folder / f"songs/song_{i:05}.wav", 0.3 * rng.uniform(-1, 1, 44_100), 44_100)
  for system, model in (("singsong", "model"), ("fine", "model/fine")):
    places = [f"DATA_DIR = '{folder}/data'", f"MODEL_DIR = '{folder}/{model}'"]
    swap(system, *places, *SHORT, *TINY[system])
    from data_pipelines import job, make_clips
    from singsong_jax.training import loop

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(make_clips, "get_separator", lambda settings: HalfSeparator())
      job.prepare(
        settings=job.configured_settings(semantics="logmel,num_codes=32", noise_draws=2, num_shards=1),
        songs=f"{folder}/songs",
        output_dir=f"{folder}/data",
      )
    loop.train()
  return folder


def test_lengths_of_ten_seconds(swap):
  swap("singsong", "DATA_DIR = ''", "MODEL_DIR = ''")
  system = macro("SYSTEM")
  assert system.geometry.acoustic_frames == 750
  assert system.target_layout.coarse_length == 3000
  assert macro("EXAMPLES").lengths == {"inputs": 3250, "targets": 3250}
  assert system.network.vocab_size == 2 + 32 + 4 * 64
  starts, sizes = system.legal_blocks
  assert starts[[0, 249, 250, 251, 254, 3249]].tolist() == [2, 2, 34, 98, 34, 34 + 3 * 64]
  assert sizes[[0, 249, 250, 3249]].tolist() == [32, 32, 64, 64]
  swap("fine", "DATA_DIR = ''", "MODEL_DIR = ''")
  layout = macro("SYSTEM").layout
  assert (layout.coarse_length, layout.fine_length, layout.vocabulary_size) == (900, 900, 1 + 8 * 64)


@pytest.mark.slow
def test_records_have_the_codecs_sizes(chain):
  from tasks.corpus import Corpus

  corpus = Corpus.load(chain / "data")
  fields = corpus.schema.fields
  assert fields["instrumental_acoustic"].length == 30 * 8 and fields["instrumental_acoustic"].limit == 64
  assert fields["instrumental_semantic"].length == 10 and fields["instrumental_semantic"].limit == 32
  corpus.check("train")


@pytest.mark.slow
def test_data_of_another_codec_than_the_models_name_the_axis(chain, swap):
  swap("singsong", f"DATA_DIR = '{chain}/data'", "MODEL_DIR = ''", codec=False)
  from tasks import datasets

  with pytest.raises(InputError, match=r"num_acoustic_codes=64, .* 1024; its codec is 'mdct': .* --codec=…"):
    datasets.train_iterator()


@pytest.mark.slow
def test_a_voice_gets_its_instrumental(chain):
  """Of any rate and length: windows, both tokenisers' views of them, and the fine stage's chunks fit."""
  from singsong_jax.audio.tracks import ArrayTrack
  from singsong_jax.inference.accompanist import Accompanist
  from singsong_jax.inference.job import Job
  from singsong_jax.inference.models import load_models
  from singsong_jax.inference.settings import Settings
  from singsong_jax.inference.vocals import check_vocals

  voice = 0.3 * np.sin(np.arange(round(0.9 * 22_050)) / 20)
  models = load_models(chain / "model")
  result = Accompanist(models).accompany(voice, 22_050)
  assert result.instrumental.shape == voice.shape and result.details["fine_model"]
  assert result.details["windows"] == 4  # of 0.4 s, 0.2 s of it given
  assert np.sqrt(np.mean(result.instrumental**2)) > 1e-3
  job = Job(models, check_vocals(ArrayTrack(voice[None], 22_050, "voice")), Settings())
  codes = job.generate({})
  assert codes.read(0, 68).shape == (1, 68, 8)  # 0.9 s · 75 Hz = 67.5
