"""Self-supervised encoders, and Whisper's, as implemented in Hugging Face transformers.

- W.-N. Hsu et al., "HuBERT", arXiv 2106.07447.
- S. Chen et al., "WavLM", arXiv 2110.13900.
- A. Baevski et al., "wav2vec 2.0", arXiv 2006.11477; A. Babu et al., "XLS-R", arXiv 2111.09296.
- Seamless Communication, "Seamless", arXiv 2312.05187 (w2v-BERT 2.0).
- A. Baevski et al., "data2vec", arXiv 2202.03555.
- A. Radford et al., "Whisper", arXiv 2212.04356.

Each utterance, or each window of a long one, runs on its own without padding, so that other rows
change no feature. That is also fast on a CPU. Only the requested layers are kept and run.
"""

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from ...errors import CheckpointError
from ...plain_torch import made_plainly
from .front_ends import (
    FilterbankFrontEnd,
    FrontEnd,
    WaveFrontEnd,
    WhisperFrontEnd,
    read_preprocessor,
)
from .layers import OUTPUT, LayerChoice
from .overlapping import WindowedEncoder, check_windows


class Architecture(NamedTuple):
    """Location of a type of model in transformers.

    Attributes:
        config, model: names of its classes.
        source: its paper.
        depth: the configuration's name for the number of layers.
    """

    config: str
    model: str
    source: str
    depth: str = "num_hidden_layers"


ARCHITECTURES = {
    "hubert": Architecture("HubertConfig", "HubertModel", "arXiv 2106.07447"),
    "wavlm": Architecture("WavLMConfig", "WavLMModel", "arXiv 2110.13900"),
    "wav2vec2": Architecture("Wav2Vec2Config", "Wav2Vec2Model", "arXiv 2006.11477"),
    "wav2vec2-conformer": Architecture(
        "Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel", "arXiv 2010.05171"
    ),
    "wav2vec2-bert": Architecture("Wav2Vec2BertConfig", "Wav2Vec2BertModel", "arXiv 2312.05187"),
    "data2vec-audio": Architecture("Data2VecAudioConfig", "Data2VecAudioModel", "arXiv 2202.03555"),
    "unispeech-sat": Architecture("UniSpeechSatConfig", "UniSpeechSatModel", "arXiv 2110.05752"),
    "whisper": Architecture("WhisperConfig", "WhisperModel", "arXiv 2212.04356", "encoder_layers"),
}

#: Fields without effect on the features, which differ between copies of a model.
_IRRELEVANT = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "architectures")

_outputs: ContextVar[dict[int, Tensor] | None] = ContextVar("outputs", default=None)


@dataclass(frozen=True)
class PretrainedConfig:
    """Configuration of `Pretrained`.

    Attributes:
        model: the fields of the model's transformers configuration, reduced to the layers needed.
        preprocessor: the fields of its `preprocessor_config.json`.
        choice: layers that the features are taken from.
        window_s: in seconds; longer audio runs in overlapping windows. Ignored for Whisper, whose
            windows are as long as its positions.
        overlap_s: overlap of neighbouring windows in seconds.
    """

    model: dict[str, Any]
    preprocessor: dict[str, Any]
    choice: LayerChoice = field(default_factory=LayerChoice)
    window_s: float = 30.0
    overlap_s: float = 4.0

    def __post_init__(self) -> None:
        if self.model.get("model_type") not in ARCHITECTURES:
            raise ValueError(
                f"a model of type {self.model.get('model_type')!r}; encoders are "
                f"{', '.join(ARCHITECTURES)}"
            )
        check_windows(self.window_s, self.overlap_s)


class Pretrained(WindowedEncoder):
    """A published encoder with the interface of this package.

    Args:
        config: see `PretrainedConfig`.

    Raises:
        CheckpointError: transformers is not installed, or does not accept the configuration.
    """

    kind = "transformers"
    Config = PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        self._set_up(config)
        settings = _settings(config.model)
        model = getattr(_transformers(), self.architecture.model)(settings)
        self._keep(model)

    def _set_up(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        kind = config.model["model_type"]
        self.architecture = ARCHITECTURES[kind]
        settings = _settings(config.model)
        self.front_end = _front_end(kind, settings, config.preprocessor)
        self.sample_rate, self.hop = self.front_end.sample_rate, self.front_end.hop
        self.dims = config.choice.dims(settings.hidden_size)
        self.depth = config.choice.depth(config.model[self.architecture.depth])
        self.set_windows(config.window_s, config.overlap_s, self.front_end.max_frames)
        self.license = "see the publisher's model card"
        self.source = self.architecture.source
        layers = ", ".join(map(str, config.choice.layers))
        self.description = f"{kind} through transformers, layer {layers}"

    def _keep(self, model: Any) -> None:
        """Keep the model's encoder, to the depth needed, and register hooks on its layers."""
        if self.config.model["model_type"] == "whisper":
            model = model.get_encoder()
            layers = model.layers
        else:
            model.adapter = None
            layers = model.encoder.layers
        _fuse_weight_norms(model)
        self.model = model.float().eval().requires_grad_(False)
        for number, layer in enumerate(layers, 1):
            layer.register_forward_hook(partial(_after_layer, number))
        if layers:
            layers[0].register_forward_pre_hook(_before_layers)

    @classmethod
    @made_plainly
    def from_published(
        cls,
        directory: Path,
        choice: LayerChoice | None = None,
        window_s: float = 30.0,
        overlap_s: float = 4.0,
    ) -> Self:
        """Load a published model: `config.json`, `preprocessor_config.json`, weights.

        Args:
            directory: of these files.
            choice: layers; default: the middle one, for HuBERT base the sixth, whose clusters were
                the targets of its second iteration.
            window_s, overlap_s: see `PretrainedConfig`.

        Raises:
            CheckpointError: a file is missing or damaged, the type is unknown, or it has fewer
                layers.
        """
        path = directory / "config.json"
        try:
            fields = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from None
        kind = fields.get("model_type") if isinstance(fields, dict) else None
        if kind not in ARCHITECTURES:
            raise CheckpointError(
                f"{directory}: a model of type {kind!r}; the encoders that load are "
                f"{', '.join(ARCHITECTURES)}"
            )
        architecture = ARCHITECTURES[kind]
        fields = {name: value for name, value in fields.items() if name not in _IRRELEVANT}
        # Defaults that the file omits may change with transformers' versions.
        available = getattr(_settings(fields), architecture.depth)
        choice = choice or LayerChoice((max(1, available // 2),))
        try:
            fields[architecture.depth] = choice.depth(available)
            if kind == "whisper":
                fields["decoder_layers"] = 0
            else:
                fields["add_adapter"] = False
            preprocessor = read_preprocessor(directory)
            config = PretrainedConfig(fields, preprocessor, choice, window_s, overlap_s)
        except ValueError as error:
            raise CheckpointError(f"{directory}: {error}") from None
        encoder = cls.__new__(cls)
        encoder._set_up(config)
        encoder._keep(_load(directory, architecture, _settings(fields)))
        return encoder

    def run(self, samples: Tensor) -> Tensor:
        frames = -(-len(samples) // self.hop)
        outputs: dict[int, Tensor] = {}
        token = _outputs.set(outputs)
        try:
            outputs[OUTPUT] = self.model(self.front_end(samples)).last_hidden_state
        finally:
            _outputs.reset(token)
        rows = {layer: output[0, :frames] for layer, output in outputs.items()}
        return self.config.choice.put_together(rows).float()

    def run_unpadded(self, samples: Tensor) -> Tensor:
        """As `run`, without the silence by which Whisper's window is filled: 30 s take long."""
        if not isinstance(self.front_end, WhisperFrontEnd):
            return self.run(samples)
        rows = {layer: x[0] for layer, x in self.hidden_states(samples[None]).items()}
        return self.config.choice.put_together(rows).float()

    def hidden_states(self, waves: Tensor) -> dict[int, Tensor]:
        if isinstance(self.front_end, FilterbankFrontEnd):
            return super().hidden_states(waves)
        outputs: dict[int, Tensor] = {}
        token = _outputs.set(outputs)
        try:
            taken = self.front_end.batch(waves)
            if isinstance(self.front_end, WhisperFrontEnd):
                outputs[OUTPUT] = _whisper_layers(self.model, taken)
            else:
                outputs[OUTPUT] = self.model(taken).last_hidden_state
        finally:
            _outputs.reset(token)
        return outputs


def _whisper_layers(encoder: Any, mel: Tensor) -> Tensor:
    """Run Whisper's encoder on mel (batch, channels, frames), of any length up to its positions."""
    x = nn.functional.gelu(encoder.conv1(mel))
    x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    for layer in encoder.layers:
        x = layer(x, None)
    normed: Tensor = encoder.layer_norm(x)
    return normed


def _after_layer(number: int, layer: nn.Module, inputs: Any, output: Any) -> None:
    # A context variable, since several threads may run one model at the same time.
    outputs = _outputs.get()
    if outputs is not None:
        outputs[number] = output[0] if isinstance(output, tuple) else output


def _before_layers(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    outputs = _outputs.get()
    if outputs is not None:
        outputs[0] = inputs[0]


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise CheckpointError(
            'this encoder needs transformers: pip install "syllabary[ssl]"'
        ) from None
    return transformers


def _settings(fields: dict[str, Any]) -> Any:
    """Create transformers' configuration."""
    name = ARCHITECTURES[fields["model_type"]].config
    try:
        return getattr(_transformers(), name)(**fields)
    except CheckpointError:
        raise
    except Exception as error:  # its validation raises several types
        raise CheckpointError(f"{name} does not take these fields: {error}") from None


def _front_end(kind: str, settings: Any, preprocessor: dict[str, Any]) -> FrontEnd:
    if kind == "whisper":
        return WhisperFrontEnd(preprocessor, settings.max_source_positions)
    if kind == "wav2vec2-bert":
        return FilterbankFrontEnd(preprocessor)
    return WaveFrontEnd(list(settings.conv_kernel), list(settings.conv_stride), preprocessor)


def _load(directory: Path, architecture: Architecture, settings: Any) -> Any:
    transformers = _transformers()
    safe = any(directory.glob("*.safetensors"))
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # omitted layers are intended
    logging.disable_progress_bar()
    try:
        # Older publications have no safetensors; their pickles are loaded as weights only.
        model, report = getattr(transformers, architecture.model).from_pretrained(
            directory,
            config=settings,
            local_files_only=True,
            use_safetensors=safe,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, safetensors and torch raise different types
        raise CheckpointError(f"{directory}: {error}") from None
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
    # Of Whisper, only the encoder is kept; the mask embedding is only for training.
    missing = sorted(
        name
        for name in report["missing_keys"]
        if "masked_spec_embed" not in name and not name.startswith("decoder.")
    )
    if missing:
        raise CheckpointError(f"{directory}: {len(missing)} weights missing, such as {missing[0]}")
    return model


def _fuse_weight_norms(model: nn.Module) -> None:
    """Compute weight-normalized weights once, instead of in every call."""
    from torch.nn.utils import parametrize

    for module in model.modules():
        normalised: Any = getattr(module, "parametrizations", None)
        if parametrize.is_parametrized(module):
            for name in list(normalised):
                parametrize.remove_parametrizations(module, name)
