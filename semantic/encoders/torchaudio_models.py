"""HuBERT, WavLM and wav2vec 2.0 as implemented in torchaudio: from bundles or weight files.

torchaudio is an optional dependency. `pretrained.py` has the same models through transformers; this
module is for bundles and checkpoints in torchaudio's layout.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, UnknownTokenizerError
from ...plain_torch import made_plainly
from .layers import LayerChoice
from .overlapping import WindowedEncoder, check_windows

_DEPTH = "encoder_num_layers"


@dataclass(frozen=True)
class TorchaudioConfig:
    """Configuration of `TorchaudioModel`.

    Attributes:
        architecture: `wav2vec2` (HuBERT too) or `wavlm`.
        arguments: of `torchaudio.models.wav2vec2_model` or `wavlm_model`, reduced to the layers
            needed.
        normalize: whether to normalize the wave to zero mean and unit variance, from the bundle.
        choice: layers; counted from 1, as in torchaudio.
        window_s, overlap_s: of windows for longer audio, in seconds.
    """

    architecture: Literal["wav2vec2", "wavlm"]
    arguments: dict[str, Any]
    normalize: bool = False
    choice: LayerChoice = field(default_factory=LayerChoice)
    window_s: float = 30.0
    overlap_s: float = 4.0

    def __post_init__(self) -> None:
        if min(self.choice.layers) < 1:
            raise ValueError(f"torchaudio's layers count from 1, got {self.choice.layers}")
        check_windows(self.window_s, self.overlap_s)


class TorchaudioModel(WindowedEncoder):
    """One of torchaudio's wav2vec2-like models with the interface of this package.

    Args:
        config: see `TorchaudioConfig`.

    Raises:
        CheckpointError: torchaudio is not installed, or does not accept the arguments.
    """

    kind = "torchaudio"
    Config = TorchaudioConfig
    source = "arXiv 2006.11477, 2106.07447, 2110.13900, through torchaudio"
    license = "see the publisher's model card"
    sample_rate = 16000

    def __init__(self, config: TorchaudioConfig) -> None:
        super().__init__(config)
        arguments = {**config.arguments, "aux_num_out": None}
        try:
            make = getattr(_torchaudio().models, f"{config.architecture}_model")
            model: nn.Module = make(**arguments)
        except (TypeError, KeyError) as error:
            raise CheckpointError(f"torchaudio does not take these arguments: {error}") from None
        self.model = model.eval().requires_grad_(False)
        self.hop, self.window_field = 1, 1
        for _, kernel, stride in arguments["extractor_conv_layer_config"]:
            self.window_field += (kernel - 1) * self.hop
            self.hop *= stride
        self.depth = config.choice.depth(arguments[_DEPTH])
        self.dims = config.choice.dims(arguments["encoder_embed_dim"])
        self.set_windows(config.window_s, config.overlap_s)
        layers = ", ".join(map(str, config.choice.layers))
        self.description = f"{config.architecture} through torchaudio, layer {layers}"

    @classmethod
    @made_plainly
    def from_bundle(
        cls,
        name: str,
        choice: LayerChoice | None = None,
        window_s: float = 30.0,
        overlap_s: float = 4.0,
    ) -> Self:
        """Load a bundle of `torchaudio.pipelines`, such as HUBERT_BASE; torchaudio downloads it.

        Raises:
            UnknownTokenizerError: there is no such bundle, or it can't be fetched.
        """
        pipelines = _torchaudio().pipelines
        bundle = getattr(pipelines, name, None)
        if not isinstance(bundle, pipelines.Wav2Vec2Bundle):
            known = [key for key, value in vars(pipelines).items()
                     if isinstance(value, pipelines.Wav2Vec2Bundle)]  # fmt: skip
            raise UnknownTokenizerError(f"no bundle {name!r}; there are {', '.join(sorted(known))}")
        try:
            model = bundle.get_model()
        except Exception as error:  # any error of the download
            raise UnknownTokenizerError(f"can't fetch torchaudio's {name}: {error}") from None
        # Large models are wrapped in a module that normalizes their wave.
        state = getattr(model, "model", model).state_dict()
        architecture: Literal["wav2vec2", "wavlm"] = (
            "wavlm" if "encoder_num_buckets" in bundle._params else "wav2vec2"
        )
        return cls._with_weights(
            state, architecture, bundle._params, bundle._normalize_waveform, choice,
            window_s, overlap_s,
        )  # fmt: skip

    @classmethod
    @made_plainly
    def from_file(
        cls,
        path: Path,
        architecture: Literal["wav2vec2", "wavlm"],
        arguments: dict[str, Any],
        normalize: bool = False,
        choice: LayerChoice | None = None,
        window_s: float = 30.0,
        overlap_s: float = 4.0,
    ) -> Self:
        """Load a state dict from `torch.save` or safetensors; pickled code is never run.

        Raises:
            CheckpointError: it can't be read, or is not of a model with these arguments.
        """
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch, pickle and safetensors raise different types
            raise CheckpointError(f"{path}: {error}") from None
        return cls._with_weights(
            state, architecture, arguments, normalize, choice, window_s, overlap_s
        )

    @classmethod
    def _with_weights(
        cls,
        state: dict[str, Tensor],
        architecture: Literal["wav2vec2", "wavlm"],
        arguments: dict[str, Any],
        normalize: bool,
        choice: LayerChoice | None,
        window_s: float,
        overlap_s: float,
    ) -> Self:
        available = arguments[_DEPTH]
        choice = choice or LayerChoice((max(1, available // 2),))
        try:
            shorter = {**arguments, _DEPTH: choice.depth(available)}
            encoder = cls(
                TorchaudioConfig(architecture, shorter, normalize, choice, window_s, overlap_s)
            )
            own = encoder.model.state_dict()
            encoder.model.load_state_dict({name: state[name] for name in own})
        except KeyError as error:
            raise CheckpointError(f"the weights lack {error}") from None
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(str(error)) from None
        return encoder.eval()

    def run(self, samples: Tensor) -> Tensor:
        frames = -(-len(samples) // self.hop)
        if self.config.normalize:
            samples = torch.nn.functional.layer_norm(samples, samples.shape)
        # Zeros after the samples, and nothing before them: see `front_ends.py`.
        after = (frames - 1) * self.hop + self.window_field - len(samples)
        wave = torch.nn.functional.pad(samples, (0, max(0, after)))[None]
        model: Any = self.model
        layers, _ = model.extract_features(wave, num_layers=self.depth)
        outputs = {number: layer[0, :frames] for number, layer in enumerate(layers, 1)}
        return self.config.choice.put_together(outputs).float()

    def hidden_states(self, waves: Tensor) -> dict[int, Tensor]:
        if self.config.normalize:
            waves = torch.nn.functional.layer_norm(waves, waves.shape[1:])
        samples = waves.shape[1]
        after = (-(-samples // self.hop) - 1) * self.hop + self.window_field - samples
        model: Any = self.model
        padded = torch.nn.functional.pad(waves, (0, max(0, after)))
        layers, _ = model.extract_features(padded, num_layers=self.depth)
        return dict(enumerate(layers, 1))


def _torchaudio() -> Any:
    try:
        import torchaudio
    except (ImportError, OSError):  # the latter if its wheel is for another torch
        raise CheckpointError(
            'this encoder needs torchaudio: pip install "syllabary[ssl]"'
        ) from None
    return torchaudio
