"""Codecs that listen with a speech encoder, too: X-Codec, Higgs Audio, X-Codec 2 and NeuCodec.

A self-supervised model (HuBERT, or w2v-BERT 2.0 on filterbank features) hears the same samples, and
its features are quantized together with those of the convolutions. Attention sees the whole
utterance, so none of them is causal.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor

from ...audio.resampling import resample
from .adapter import Adapter, fit


class XCodec(Adapter):
    """X-Codec, and the tokenizer of Higgs Audio v2: residual quantization of both branches."""

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        codes: Tensor = model.encode(wave[None, None], return_dict=True).audio_codes[0]
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        wave: Tensor = model.decode(codes[None], return_dict=True).audio_values
        return wave.flatten()


class XCodec2(Adapter):
    """X-Codec 2: one codebook of finite scalar quantization.

    Its feature extractor appends a sample before it pads to whole frames. So an utterance of whole
    frames gets one frame more, which stands for none of its samples and is dropped.
    """

    whole_frames = False
    _extractor = "Xcodec2FeatureExtractor"

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.latent_channels = settings.quantization_dim

    def find_codebook_sizes(self) -> list[int]:
        return [prod(self.settings.quantization_levels)]

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        codes: Tensor = model.encode(**self._features(wave)).audio_codes[0]
        return codes.long()

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        wave: Tensor = model.decode(codes[None]).audio_values
        return wave.flatten()

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        given = self._features(wave)
        heard = model.semantic_encoder(
            given["input_features"], attention_mask=given["input_features_mask"]
        ).last_hidden_state
        branches = [
            model.semantic_adapter(heard.transpose(1, 2)),
            model.acoustic_encoder(given["input_values"]),
        ]
        frames = min(branch.shape[-1] for branch in branches)
        both = torch.cat([branch[..., :frames] for branch in branches], 1)
        return self._unrounded(model.quantizer, model.fc_encoder(both.transpose(1, 2))[0])

    @staticmethod
    def _unrounded(outer: Any, vectors: Tensor) -> Tensor:
        """What the quantizer makes of vectors, without its rounding: the decoder's space."""
        inner = outer.quantizer
        # Both bound the values, the outer one for the sake of the first checkpoint.
        bounded = inner.bound(inner.bound(outer.project_in(vectors)))
        found: Tensor = outer.project_out(bounded / (inner.levels // 2))
        return found

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        return [model.quantizer.from_codes(codes.T[None])[0]]

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decode(latents=vectors.T[None]).audio_values
        return wave.flatten()

    def _features(self, wave: Tensor) -> dict[str, Tensor]:
        """Samples, and filterbank features for w2v-BERT, both with their masks."""
        import transformers

        extractor = getattr(transformers, self._extractor)(
            sampling_rate=self.sample_rate, hop_length=prod(self.settings.downsampling_ratios)
        )
        found = extractor(wave.cpu().numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        return {name: value.to(wave.device) for name, value in found.items()}


class NeuCodec(XCodec2):
    """NeuCodec: X-Codec 2 with a decoder to 24 kHz.

    A tokenizer has one sample rate, here the encoder's 16 kHz, to which decoded audio is resampled;
    `decode(tokens, sample_rate=24_000)` returns it as the model makes it. The feature extractor
    gives one frame less than X-Codec 2's, so the last frame is padded with zeros first.
    """

    whole_frames = True
    _extractor = "NeuCodecFeatureExtractor"

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.native_rate = settings.output_sampling_rate

    def find_sample_rate(self) -> int:
        return int(self.settings.input_sampling_rate)

    def find_hop(self) -> int:
        return int(self.settings.encoder_hop_length)

    def decode_natively(self, model: Any, codes: Tensor) -> Tensor:
        return super().decode(model, codes)

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        return self._resampled(self.decode_natively(model, codes), codes.shape[1])

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        return self._resampled(super().decode_latents(model, vectors), len(vectors))

    def _resampled(self, native: Tensor, frames: int) -> Tensor:
        wave = resample(native.cpu().numpy(), self.native_rate, self.sample_rate)
        return fit(torch.from_numpy(wave).to(native.device), frames * self.hop)
