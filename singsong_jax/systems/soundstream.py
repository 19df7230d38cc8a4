"""SoundStream (Zeghidour et al. 2021) as a system: the paper's codec, trained against discriminators.

Two networks learn against each other, and codebooks by moving averages, so it brings its own `update`.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import gin
import jax
import jax.numpy as jnp
import optax

from singsong_jax.errors import InputError
from singsong_jax.networks import spectra
from singsong_jax.networks.soundstream import discriminators as judges
from singsong_jax.networks.soundstream import quantizer
from singsong_jax.networks.soundstream.config import SoundStreamConfig
from singsong_jax.networks.soundstream.discriminators import DiscriminatorConfig, Discriminators
from singsong_jax.networks.soundstream.flops import generator_macs
from singsong_jax.networks.soundstream.generator import Decoder, Encoder
from singsong_jax.networks.soundstream.quantizer import Codebooks, Quantized
from singsong_jax.systems.base import Batch, Sums

gin.external_configurable(SoundStreamConfig)
gin.external_configurable(DiscriminatorConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """Weights of the generator's losses, each a mean over an example.

  Attributes:
    log_mel: of DAC's distance of log-mel spectra; `papers_spectral` of SoundStream's equation 4.
    commitment: SoundStream does not list this term, without which latents may drift from the codebooks.
  """

  log_mel: float = 0.0
  papers_spectral: float = 0.0
  adversarial: float = 1.0
  features: float
  commitment: float


RECIPES = {
  "dac": Recipe(log_mel=15.0, features=2.0, commitment=0.25),
  "paper": Recipe(papers_spectral=1.0, features=100.0, commitment=1.0),
}


@flax.struct.dataclass
class SoundStreamParams:
  """Everything a SoundStream has learned.

  Attributes:
    networks: `{'encoder', 'decoder'}`, as the optimizer leaves them.
    average: the same, averaged over steps: what encodes and decodes.
    codebooks: of the quantizer.
    latents: float32 `[n, latent_dim]`, the newest ones from before the codebooks were fitted.
    discriminators: their parameters, or nothing.
  """

  networks: Any
  average: Any
  codebooks: Codebooks
  latents: jax.Array
  discriminators: Any


@gin.configurable
@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundStream:
  """See the module's docstring.

  Attributes:
    network: the generator.
    discriminators: None trains without any.
    segment_seconds: of training examples.
    recipe: of losses, 'dac' or 'paper'.
    waveform_weight: of Σ|x − x̂| / Σ|x|, which neither recipe has. Without discriminators it is what ties the
      phases to the input's.
    decay: γ of the codebooks' moving averages (SoundStream, §III-C: 0.99).
    dead_threshold: see `quantizer.update_codebooks`.
    dropout_rate: share of examples that are decoded from 1 … num_levels levels, drawn evenly.
    coarse_rate: share that is decoded from `coarse_levels`: SingSong decodes coarse codes alone (§3.2).
    coarse_levels: 4 in the paper.
    fit_codebooks_at: step at which codebooks are fitted by k-means, to latents gathered in the steps before,
      which do without a quantizer.
    gathered_latents: how many.
    adversarial_from: step from which discriminators have a say.
    averaging: decay of the averaged networks.
  """

  network: SoundStreamConfig
  discriminators: DiscriminatorConfig | None = DiscriminatorConfig()
  segment_seconds: float = 1.0
  recipe: str = "dac"
  waveform_weight: float = 0.0
  decay: float = 0.99
  dead_threshold: float = 2.0
  dropout_rate: float = 0.5
  coarse_rate: float = 0.15
  coarse_levels: int = 4
  fit_codebooks_at: int = 100
  gathered_latents: int = 16_384
  adversarial_from: int = 5_000
  averaging: float = 0.999

  name = "soundstream"  # no annotation: a class attribute, not a field

  def __post_init__(self):
    if self.recipe not in RECIPES:
      raise InputError(f"SoundStream.recipe is {self.recipe!r}; choose one of {', '.join(RECIPES)}")
    if self.segment_samples % self.network.hop_samples or not self.segment_samples:
      raise InputError(
        f"SoundStream.segment_seconds={self.segment_seconds}: {self.segment_samples} samples are no multiple "
        f"of the hop, {self.network.hop_samples}"
      )
    if self.fit_codebooks_at < 1:
      raise InputError(f"SoundStream.fit_codebooks_at={self.fit_codebooks_at}: at least 1 is needed")
    if not 1 <= self.coarse_levels <= self.network.num_levels:
      raise InputError(
        f"SoundStream.coarse_levels={self.coarse_levels} is outside 1 … {self.network.num_levels}, the levels"
      )
    if self.dropout_rate < 0 or self.coarse_rate < 0 or self.dropout_rate + self.coarse_rate > 1:
      raise InputError(
        f"SoundStream.dropout_rate={self.dropout_rate} and coarse_rate={self.coarse_rate} are shares of the "
        "examples: at least 0, and 1 at most together"
      )

  @property
  def segment_samples(self) -> int:
    return round(self.segment_seconds * self.network.sample_rate_hz)

  @property
  def axis_sizes(self) -> dict[str, int]:
    return {}  # parameters are small, and on every device as a whole

  def init(self, rng: jax.Array) -> SoundStreamParams:
    """Fresh parameters, without logical axes; no codebooks yet."""
    keys = jax.random.split(rng, 3)
    waveform = jnp.zeros((1, self.segment_samples))
    latents = jnp.zeros((1, 1, self.network.latent_dim))
    networks = {
      "encoder": Encoder(self.network).init(keys[0], waveform[:, : self.network.hop_samples])["params"],
      "decoder": Decoder(self.network).init(keys[1], latents)["params"],
    }
    config = self.discriminators
    sizes = (self.network.num_levels, self.network.num_codes, self.network.latent_dim)
    return SoundStreamParams(
      networks=networks,
      average=networks,
      codebooks=quantizer.empty_codebooks(*sizes),
      latents=jnp.zeros((self.gathered_latents, self.network.latent_dim)),
      discriminators=Discriminators(config).init(keys[2], waveform)["params"] if config else {},
    )

  def init_optimizer(self, transformation: optax.GradientTransformation, params: SoundStreamParams) -> Any:
    """A state each for the generator and the discriminators, which never see each other's gradients."""
    return {
      "networks": transformation.init(params.networks),
      "discriminators": transformation.init(params.discriminators),
    }

  def update(
    self,
    step: jax.Array,
    params: SoundStreamParams,
    opt_state: Any,
    batch: Batch,
    rng: jax.Array,
    transformation: optax.GradientTransformation,
  ) -> tuple[SoundStreamParams, Any, Sums]:
    """One step of everything; see `systems.base.System.update`."""
    levels_rng, fit_rng, dead_rng = jax.random.split(rng, 3)
    codebooks = jax.lax.cond(
      step == self.fit_codebooks_at,
      lambda: quantizer.kmeans_codebooks(fit_rng, params.latents, *params.codebooks.counts.shape),
      lambda: params.codebooks,
    )
    num_levels = self.draw_levels(levels_rng, len(batch["waveform"]))
    has_judges = step >= self.adversarial_from if self.discriminators else False

    def generator_loss(networks):
      return self._generator_loss(networks, codebooks, params.discriminators, batch, num_levels, has_judges)

    gradients, (sums, latents, quantized, decoded) = jax.grad(generator_loss, has_aux=True)(params.networks)
    updates, networks_state = transformation.update(gradients, opt_state["networks"], params.networks)
    networks = optax.apply_updates(params.networks, updates)
    norms = {"gradient_norm": gradients, "parameter_norm": params.networks, "update_norm": updates}
    sums |= {name: (optax.tree.norm(tree), jnp.ones(())) for name, tree in norms.items()}

    judges_params, judges_state = params.discriminators, opt_state["discriminators"]
    if self.discriminators:
      trained = self._train_discriminators(judges_params, judges_state, batch, decoded, transformation)
      *new, judges_sums = trained
      judges_params, judges_state = jax.tree.map(
        lambda new, old: jnp.where(has_judges, new, old), tuple(new), (judges_params, judges_state)
      )
      sums |= judges_sums

    moved = quantizer.update_codebooks(
      codebooks, quantized, dead_rng, decay=self.decay, max_threshold=self.dead_threshold
    )
    fitted = quantizer.is_fitted(codebooks)
    codebooks = jax.tree.map(lambda new, old: jnp.where(fitted, new, old), moved, codebooks)
    sums |= _codebook_sums(codebooks)
    new_params = SoundStreamParams(
      networks=networks,
      average=optax.incremental_update(networks, params.average, 1 - self._averaging(step)),
      codebooks=codebooks,
      latents=_push(params.latents, latents),
      discriminators=judges_params,
    )
    return new_params, {"networks": networks_state, "discriminators": judges_state}, sums

  def draw_levels(self, rng: jax.Array, rows: int) -> jax.Array:
    """How many levels each of `rows` examples is decoded from: int32 `[rows]`."""
    kind_rng, level_rng = jax.random.split(rng)
    kind = jax.random.uniform(kind_rng, (rows,))
    levels = self.network.num_levels
    drawn = jax.random.randint(level_rng, (rows,), 1, levels + 1)
    some = jnp.where(kind < self.coarse_rate + self.dropout_rate, drawn, levels)
    return jnp.where(kind < self.coarse_rate, self.coarse_levels, some)

  def _averaging(self, step: jax.Array) -> jax.Array:
    """Less in the first steps, whose networks would count for too long."""
    return jnp.minimum(self.averaging, (1 + step) / (10 + step))

  def _generator_loss(self, networks, codebooks, judges_params, batch, num_levels, has_judges):
    weights = self._weights()
    latents = self.encode(networks, batch["waveform"])
    quantized, decoded = self._decode_quantized(networks, codebooks, latents, num_levels[:, None])
    terms = self._distances(batch["waveform"], decoded)
    commitment = jnp.mean(quantizer.commitment(quantized), axis=1)
    terms["commitment"] = jnp.where(quantizer.is_fitted(codebooks), commitment, 0.0)
    if self.discriminators:
      module = Discriminators(self.discriminators)
      real, fake = (module.apply({"params": judges_params}, x) for x in (batch["waveform"], decoded))
      terms |= {"adversarial": judges.adversarial_loss(fake), "features": judges.feature_loss(real, fake)}
      weights |= {name: jnp.where(has_judges, weights[name], 0.0) for name in ("adversarial", "features")}
    total = sum(weights[name] * value for name, value in terms.items())
    sums = _weighted({"loss": total, **terms}, batch["weight"])
    loss = sums["loss"][0] / sums["loss"][1]
    return loss, (sums, latents, quantized, decoded)

  def _decode_quantized(
    self, networks: Any, codebooks: Codebooks, latents: jax.Array, num_levels: jax.Array | int | None
  ) -> tuple[Quantized, jax.Array]:
    """Quantised latents and the waveform they give; the latents themselves before codebooks are fitted."""
    quantized = quantizer.quantize(latents, codebooks.entries, num_levels)
    given = jnp.where(
      quantizer.is_fitted(codebooks), quantizer.straight_through(latents, quantized.vectors), latents
    )
    return quantized, self.decode(networks, given)

  @functools.partial(jax.jit, static_argnums=(0, 3))
  def reconstruct(self, params: SoundStreamParams, waveform: jax.Array, num_levels: int) -> jax.Array:
    """Through the averaged networks and the first `num_levels` codes: float32 `[B, T]` to the same."""
    latents = self.encode(params.average, waveform)
    return self._decode_quantized(params.average, params.codebooks, latents, num_levels)[1]

  def encode(self, networks: Any, waveform: jax.Array) -> jax.Array:
    """float32 `[B, T]` to latents `[B, T / hop, latent_dim]`."""
    return Encoder(self.network).apply({"params": networks["encoder"]}, waveform)

  def decode(self, networks: Any, latents: jax.Array) -> jax.Array:
    """Latents `[B, frames, latent_dim]` to float32 `[B, frames · hop]`."""
    return Decoder(self.network).apply({"params": networks["decoder"]}, latents)

  def _weights(self) -> dict[str, Any]:
    """Of the terms of the loss."""
    return {**dataclasses.asdict(RECIPES[self.recipe]), "waveform": self.waveform_weight}

  def _distances(self, waveform: jax.Array, decoded: jax.Array) -> dict[str, jax.Array]:
    """The terms of the recipe that compare waveforms, `[B]` each."""
    recipe, rate_hz = RECIPES[self.recipe], self.network.sample_rate_hz
    terms = {}
    if recipe.log_mel:
      terms["log_mel"] = spectra.log_mel_distance(waveform, decoded, spectra.DAC_SCALES, rate_hz)
    if recipe.papers_spectral:
      terms["papers_spectral"] = spectra.papers_distance(waveform, decoded, rate_hz)
    size = jnp.mean(jnp.abs(waveform), axis=1) + 1e-3  # −60 dB, so that silence is not infinitely wrong
    terms["waveform"] = jnp.mean(jnp.abs(waveform - decoded), axis=1) / size
    return terms

  def _train_discriminators(self, params, opt_state, batch, decoded, transformation):
    module, weight = Discriminators(self.discriminators), batch["weight"]

    def loss(params):
      real, fake = (module.apply({"params": params}, x) for x in (batch["waveform"], decoded))
      sums = _weighted({"discriminator": judges.discriminator_loss(real, fake)}, weight)
      total, count = sums["discriminator"]
      return total / count, sums

    gradients, sums = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = transformation.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, sums

  def loss(
    self, params: SoundStreamParams, batch: Batch, dropout_rng: jax.Array | None, step: Any = None
  ) -> tuple[jax.Array, Sums]:
    """Reconstruction by the averaged networks: the evaluation, without discriminators.

    Args:
      batch: `waveform [B, T]` float32, `weight [B]`.
      dropout_rng, step: not read.

    Returns:
      The weighted distances at all levels, summed over the examples; among the metrics also
      `si_sdr_db_levels_<n>` for the coarse and for all levels.
    """
    weights, waveform = self._weights(), batch["waveform"]
    latents = self.encode(params.average, waveform)
    metrics = {}
    for levels in (self.coarse_levels, self.network.num_levels):
      _, decoded = self._decode_quantized(params.average, params.codebooks, latents, levels)
      metrics[f"si_sdr_db_levels_{levels}"] = spectra.si_sdr_db(waveform, decoded)
    terms = self._distances(waveform, decoded)
    total = sum(weights[name] * value for name, value in terms.items())
    sums = _weighted({"loss": total, **terms, **metrics}, batch["weight"])
    return sums["loss"][0], sums

  def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch."""
    return {
      "waveform": jax.ShapeDtypeStruct((batch_size, self.segment_samples), jnp.float32),
      "weight": jax.ShapeDtypeStruct((batch_size,), jnp.float32),
    }

  def training_flops(self, batch_size: int) -> float:
    """Of the generator alone, forward and backward; discriminators and spectra are not counted."""
    return 6.0 * batch_size * generator_macs(self.network, self.segment_samples)

  def describe(self) -> dict[str, Any]:
    """All settings, as JSON values."""
    config = self.discriminators
    nested = {
      "network": self.network.describe(),
      "discriminators": config.describe() if config else None,
    }
    return {"system": self.name, **dataclasses.asdict(self), **nested}

  @classmethod
  def from_description(cls, description: dict[str, Any]) -> "SoundStream":
    """Inverse of `describe`."""
    settings = {key: value for key, value in description.items() if key != "system"}
    settings["network"] = SoundStreamConfig.from_description(settings["network"])
    if settings["discriminators"] is not None:
      settings["discriminators"] = DiscriminatorConfig(**settings["discriminators"])
    return cls(**settings)


def _weighted(values: dict[str, jax.Array], weight: jax.Array) -> Sums:
  """`[B]` each to (sum, weight)."""
  return {name: (jnp.sum(value * weight), jnp.sum(weight)) for name, value in values.items()}


def _codebook_sums(codebooks: Codebooks) -> Sums:
  """Usage and perplexity of each level, as they are after the step."""
  usage, perplexity = quantizer.usage_and_perplexity(codebooks)
  one = jnp.ones(())
  return {
    f"{name}_level_{level}": (values[level], one)
    for name, values in (("usage", usage), ("perplexity", perplexity))
    for level in range(len(values))
  }


def _push(buffer: jax.Array, latents: jax.Array) -> jax.Array:
  """`buffer [n, dims]` with `latents [B, frames, dims]` at its end, the oldest gone."""
  new = jax.lax.stop_gradient(latents).reshape(-1, latents.shape[-1])
  return jnp.concatenate([buffer, new])[-len(buffer) :]
