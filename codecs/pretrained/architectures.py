"""The table of published architectures that load as tokenizers. Importing it loads no torch.

To add one of transformers: an entry here, and an `Adapter` with what is different about it. The key
is the `model_type` of its `config.json`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..spec import TokenSpec

if TYPE_CHECKING:
    from .adapter import Adapter

UNKNOWN_LICENSE = "see the publisher's model card"


@dataclass(frozen=True)
class PublishedModel:
    """A checkpoint that its authors published.

    Attributes:
        id: on the Hugging Face hub, ``owner/model``; what `load` takes unless there is a `folder`.
        sample_rate: of the encoder's input, in Hz.
        hop: samples of a frame.
        codebooks: size and number of codebooks, one pair for each run of equal sizes.
        license: of the weights, as far as known; the publisher's card decides.
        native_rate: of the decoder's output in Hz, where it is another.
        channels: of the latents of a model without codebooks.
        folder: where its files come from, if they are not on the hub in the form that `load` takes:
            download them, and load their folder.
    """

    id: str
    sample_rate: int
    hop: int
    codebooks: tuple[tuple[int, int], ...]
    license: str = UNKNOWN_LICENSE
    native_rate: int | None = None
    channels: int | None = None
    folder: str | None = None

    @property
    def tokens(self) -> TokenSpec:
        """The spec of its tokens, without a digest, which only the weights give."""
        sizes = tuple(size for size, count in self.codebooks for _ in range(count))
        rate = Fraction(self.sample_rate, self.hop)
        return TokenSpec(self.id, "", self.sample_rate, rate, sizes)


@dataclass(frozen=True)
class Architecture:
    """A published architecture.

    Attributes:
        name: as its authors write it.
        source: the paper.
        adapter: the place of its `Adapter`, or of a function that chooses one, ``module:name``.
        models: published checkpoints that are known to fit.
        library: the package that runs it, as pip and `import` name it.
        config, model: the names of the library's classes, for transformers.
        fields: by which its `config.json` is known, for other libraries, whose files have no
            `model_type`.
        weights: names of the file with the weights, for other libraries.
    """

    name: str
    source: str
    adapter: str
    models: tuple[PublishedModel, ...]
    library: str = "transformers"
    config: str = ""
    model: str = ""
    fields: frozenset[str] = frozenset()
    weights: tuple[str, ...] = ()

    def adapter_kind(self) -> "Callable[[Any], Adapter]":
        """Import the adapter."""
        module, _, name = self.adapter.partition(":")
        kind: Callable[[Any], Adapter] = getattr(import_module(module), name)
        return kind

    def adapt(self, settings: Any) -> "Adapter":
        """Make the adapter for a model with these settings."""
        return self.adapter_kind()(settings)

    def license_of(self, model: str) -> str:
        """Return the licence of the weights of a published model."""
        known = {each.id: each.license for each in self.models}
        return known.get(model, UNKNOWN_LICENSE)


#: Those of the transformers library.
TRANSFORMERS = {
    "encodec": Architecture(
        "EnCodec",
        "arXiv 2210.13438",
        "syllabary.codecs.pretrained.chunked:encodec",
        config="EncodecConfig",
        model="EncodecModel",
        models=(
            PublishedModel("facebook/encodec_24khz", 24_000, 320, ((1024, 32),), "MIT (code)"),
            PublishedModel(
                "facebook/encodec_48khz",
                48_000,
                47_520,
                ((256, 4), (1024, 16 * 150)),
                "MIT (code)",
            ),
        ),
    ),
    "mimi": Architecture(
        "Mimi",
        "arXiv 2410.00037",
        "syllabary.codecs.pretrained.residual:Mimi",
        config="MimiConfig",
        model="MimiModel",
        models=(PublishedModel("kyutai/mimi", 24_000, 1920, ((2048, 32),), "CC-BY-4.0"),),
    ),
    "dac": Architecture(
        "DAC",
        "arXiv 2306.06546",
        "syllabary.codecs.pretrained.residual:Dac",
        config="DacConfig",
        model="DacModel",
        models=(
            PublishedModel("descript/dac_16khz", 16_000, 320, ((1024, 12),), "MIT"),
            PublishedModel("descript/dac_24khz", 24_000, 320, ((1024, 32),), "MIT"),
            PublishedModel("descript/dac_44khz", 44_100, 512, ((1024, 9),), "MIT"),
        ),
    ),
    "wavtokenizer": Architecture(
        "WavTokenizer",
        "arXiv 2408.16532",
        "syllabary.codecs.pretrained.residual:WavTokenizer",
        config="WavTokenizerConfig",
        model="WavTokenizerModel",
        models=(
            PublishedModel("swiss-ai/wavtokenizer-large-unify-40token", 24_000, 600, ((4096, 1),)),
        ),
    ),
    "xcodec": Architecture(
        "X-Codec",
        "arXiv 2408.17175",
        "syllabary.codecs.pretrained.with_semantics:XCodec",
        config="XcodecConfig",
        model="XcodecModel",
        models=(PublishedModel("hf-audio/xcodec-hubert-librispeech", 16_000, 320, ((1024, 8),)),),
    ),
    "higgs_audio_v2_tokenizer": Architecture(
        "Higgs Audio v2 tokenizer",
        "github.com/boson-ai/higgs-audio",
        "syllabary.codecs.pretrained.with_semantics:XCodec",
        config="HiggsAudioV2TokenizerConfig",
        model="HiggsAudioV2TokenizerModel",
        models=(
            PublishedModel(
                "bosonai/higgs-audio-v2-tokenizer",
                24_000,
                960,
                ((1024, 8),),
                "Boson Higgs Audio 2 Community License",
            ),
        ),
    ),
    "xcodec2": Architecture(
        "X-Codec 2",
        "arXiv 2502.04128",
        "syllabary.codecs.pretrained.with_semantics:XCodec2",
        config="Xcodec2Config",
        model="Xcodec2Model",
        models=(
            PublishedModel("HKUSTAudio/xcodec2-hf", 16_000, 320, ((65_536, 1),), "CC-BY-NC-4.0"),
        ),
    ),
    "neucodec": Architecture(
        "NeuCodec",
        "arXiv 2509.09550",
        "syllabary.codecs.pretrained.with_semantics:NeuCodec",
        config="NeuCodecConfig",
        model="NeuCodecModel",
        models=(
            PublishedModel("neuphonic/neucodec", 16_000, 320, ((65_536, 1),), "Apache-2.0", 24_000),
        ),
    ),
    "pocket_tts_audio_tokenizer": Architecture(
        "Pocket TTS tokenizer",
        "arXiv 2509.06926",
        "syllabary.codecs.pretrained.continuous:PocketTTS",
        config="PocketTTSAudioTokenizerConfig",
        model="PocketTTSAudioTokenizerModel",
        models=(
            PublishedModel("eustlb/pocket-tts-audio-tokenizer", 24_000, 1920, (), channels=32),
        ),
    ),
    "vibevoice_acoustic_tokenizer": Architecture(
        "VibeVoice acoustic tokenizer",
        "arXiv 2508.19205",
        "syllabary.codecs.pretrained.continuous:VibeVoice",
        config="VibeVoiceAcousticTokenizerConfig",
        model="VibeVoiceAcousticTokenizerModel",
        models=(
            PublishedModel(
                "bezzam/VibeVoice-AcousticTokenizer", 24_000, 3200, (), "MIT", channels=64
            ),
        ),
    ),
}


#: Those of their authors' own packages, the extra `published`.
PACKAGED = {
    "snac": Architecture(
        "SNAC",
        "arXiv 2410.14411",
        "syllabary.codecs.pretrained.snac:Snac",
        library="snac",
        fields=frozenset({"vq_strides", "encoder_rates", "decoder_rates"}),
        weights=("model.safetensors", "pytorch_model.bin"),
        models=(
            PublishedModel("hubertsiuzdak/snac_24khz", 24_000, 2048, ((4096, 7),), "MIT"),
            PublishedModel("hubertsiuzdak/snac_32khz", 32_000, 12_288, ((4096, 60),), "MIT"),
            PublishedModel("hubertsiuzdak/snac_44khz", 44_100, 12_288, ((4096, 60),), "MIT"),
        ),
    ),
    "speechtokenizer": Architecture(
        "SpeechTokenizer",
        "arXiv 2308.16692",
        "syllabary.codecs.pretrained.speech_tokenizer:SpeechTokenizer",
        library="speechtokenizer",
        fields=frozenset({"n_q", "strides", "semantic_dimension"}),
        weights=("model.safetensors", "SpeechTokenizer.pt", "ckpt.dev"),
        models=(
            PublishedModel(
                "fnlp/SpeechTokenizer",
                16_000,
                320,
                ((1024, 8),),
                "Apache-2.0",
                folder="huggingface.co/fnlp/SpeechTokenizer, speechtokenizer_hubert_avg",
            ),
        ),
    ),
}

#: Through LiteRT: the files alone, without a `config.json`.
LYRA = Architecture(
    "Lyra v2",
    "arXiv 2107.03312",
    "",  # a stream by itself: `lyra.LyraTokenizer`
    library="ai-edge-litert",
    models=(
        PublishedModel(
            "google/lyra",
            16_000,
            320,
            ((16, 46),),
            "Apache-2.0",
            folder="github.com/google/lyra 1.3.2, lyra/model_coeffs",
        ),
    ),
)


def published() -> Iterator[tuple[Architecture, PublishedModel]]:
    """All published models that are known, each with its architecture."""
    for architecture in (*TRANSFORMERS.values(), *PACKAGED.values(), LYRA):
        for model in architecture.models:
            yield architecture, model
