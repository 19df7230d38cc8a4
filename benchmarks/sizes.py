"""Networks with the sizes of gin/size, without the rest of a training run's configuration."""

import gin

from singsong_jax import cli
from singsong_jax.networks.config import TransformerConfig
from singsong_jax.networks.decoder_only import DecoderOnlyConfig
from singsong_jax.networks.encoder_decoder import EncoderDecoderConfig
from singsong_jax.systems import fine, singsong  # noqa: F401  they register the configurations with gin


def encoder_decoder(size: str, **settings) -> EncoderDecoderConfig:
  """The network of `gin/size/<size>.gin`. Raises InputError for a size there is no file of."""
  return _network("EncoderDecoderConfig", size, settings)


def fine_decoder(size: str, **settings) -> DecoderOnlyConfig:
  """The network of `gin/size/fine/<size>.gin`. Raises InputError for a size there is no file of."""
  return _network("DecoderOnlyConfig", f"fine/{size}", settings)


def _network(configurable: str, file: str, settings: dict) -> TransformerConfig:
  gin.clear_config()
  cli.parse_gin([f"gin/size/{file}.gin"])
  network = gin.get_configurable(configurable)(**settings)
  gin.clear_config()
  return network
