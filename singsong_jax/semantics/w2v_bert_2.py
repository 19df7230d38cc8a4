"""w2v-BERT 2.0 (Barrault et al. 2023): a w2v-BERT of speech with public weights, `facebook/w2v-bert-2.0`.

16 kHz; two log-mel frames of 10 ms each make one of its 50 a second. 24 Conformer blocks.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from singsong_jax.audio.public_weights import TORCH_WEIGHTS, PublicWeights, import_extra
from singsong_jax.audio.torch_models import load_transformers
from singsong_jax.semantics.pretrained import Network, PretrainedFeatures

# Of the log-mel frames; SeamlessM4TFeatureExtractor has them as constants.
_MEL_WINDOW_SAMPLES = 400
_MEL_HOP_SAMPLES = 160


class W2vBert2Features(PretrainedFeatures):
  """By default its 19th block, the place of the 7th of AudioLM's masked-language module (12 + 7 of 24)."""

  name: ClassVar[str] = "w2v_bert_2"
  configs: ClassVar[tuple[str, ...]] = ("config.json", "preprocessor_config.json")
  weight_files: ClassVar[tuple[str, ...]] = TORCH_WEIGHTS
  default_layer: ClassVar[int] = 19

  @classmethod
  def _open(cls, weights: PublicWeights) -> Network:
    transformers = import_extra("transformers", "torch", f"the semantic encoder {cls.name}")
    weights.check_class(["wav2vec2-bert"])
    model = load_transformers(transformers.Wav2Vec2BertModel, weights)
    log_mel = transformers.SeamlessM4TFeatureExtractor.from_pretrained(weights.folder, local_files_only=True)

    def inputs(clips: np.ndarray) -> Sequence[np.ndarray]:
      frames = log_mel(list(clips), sampling_rate=log_mel.sampling_rate, return_tensors="np")
      return frames["input_features"].astype(np.float32), frames["attention_mask"]

    hop_samples = log_mel.stride * _MEL_HOP_SAMPLES
    return Network(
      model=model,
      blocks=model.encoder.layers,
      dims=model.config.hidden_size,
      sample_rate_hz=log_mel.sampling_rate,
      hop_samples=hop_samples,
      window_samples=hop_samples - _MEL_HOP_SAMPLES + _MEL_WINDOW_SAMPLES,
      normalize=False,  # log-mel frames are, in every band
      inputs=inputs,
      forward=lambda features, mask: model(input_features=features, attention_mask=mask),
    )
