"""Masked prediction of units from perturbed speech."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.checkpoint import CONFIG_FILE, config_from_json, digest, read_config
from ...codecs.interface import AudioTokenizer
from ...codecs.neural.layers.analysis import windows_of
from ...codecs.neural.layers.causal import StackConfig
from ...codecs.neural.trunks.spectral import LayersConfig
from ...errors import TrainingError
from ...quantizers.kmeans import KMeans, KMeansConfig
from ...semantic.content.encoder import ContentConfig, ContentEncoder
from ...semantic.encoders.content import Content
from ...semantic.units.tokenizer import UnitTokenizer
from ...typed_fields import to_json
from ..data.utterance_units import UtteranceUnits
from ..losses.content import find_teacher, teacher_digest
from ..precision import in_bfloat16
from ..recipe_file import recipe_of, task_of
from ..spectral.growth import load_grown
from ..state import beginning
from ..task import Batch, Generated, TrainingTask, block_matrices
from ..training_set import TrainingSet
from .perturb import at_speeds, frame_pairs, perturbed, random_speeds, samples_at_any_speed
from .projection import steady_directions
from .recipe import ContentRecipe
from .targets import Cepstra, EncoderFeatures, FeaturesFunction, find_targets

_PROJECTION = "encoder.outward."


class Predictor(nn.Module):
    """A content encoder with what only its training needs: a mask embedding, and heads for units.

    Args:
        config: of the encoder.
        clusters: sizes of the target clusterings.
    """

    def __init__(self, config: ContentConfig, clusters: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = ContentEncoder(config)
        self.mask = nn.Parameter(torch.randn(config.num_inputs) * 0.1)
        self.heads = nn.ModuleList(nn.Linear(config.layers.width, k) for k in clusters)

    def forward(self, inputs: Tensor, masked: Tensor) -> list[Tensor]:
        """Compute logits (batch, frames, clusters) of each clustering.

        Args:
            inputs: (batch, frames, num_inputs), input features as from `ContentEncoder.inputs`.
            masked: (batch, frames) bool.
        """
        inputs = torch.where(masked[..., None], self.mask, inputs)
        y, _ = self.encoder.stack(inputs)
        return [head(y) for head in self.heads]


class ContentTask(TrainingTask[ContentRecipe]):
    """Trains a `ContentEncoder`.

    Args:
        recipe: see `ContentRecipe`.
    """

    Recipe = ContentRecipe

    generator: Predictor

    def __init__(self, recipe: ContentRecipe) -> None:
        super().__init__(recipe)
        self.generator = Predictor(recipe.model, recipe.targets.clusters)
        if not 0 <= recipe.evenness <= 1:
            raise TrainingError(f"evenness must lie in [0, 1], got {recipe.evenness}")
        if not 0 <= recipe.mask_share < 1 or recipe.mask_frames < 1 or recipe.perturb.speed < 1:
            raise TrainingError(
                "mask_share must lie in [0, 1), mask_frames and perturb.speed be at least 1, got "
                f"{recipe.mask_share}, {recipe.mask_frames} and {recipe.perturb.speed}"
            )
        try:
            saved = recipe.saved_model
        except ValueError as error:
            raise TrainingError(str(error)) from None
        hop = recipe.model.hop
        if recipe.data.sample_rate != recipe.model.sample_rate:
            raise TrainingError(
                f"data.sample_rate is {recipe.data.sample_rate}, and the model's is "
                f"{recipe.model.sample_rate}"
            )
        #: Samples of a crop that are used, at any speed.
        self.samples = samples_at_any_speed(recipe.data.crop_samples, recipe.perturb, hop)
        if self.samples <= saved.look_ahead * hop:
            raise TrainingError(f"crops of {recipe.data.crop_samples} samples are too short")

    def prepare(self, data: TrainingSet) -> None:
        self._data, store = data, data.store
        config, model = self.recipe.targets, self.recipe.model
        features: FeaturesFunction = Cepstra(model.sample_rate, model.hop)
        self._origin = "cepstra"
        if config.teacher:
            weights, settings = _teacher(Path(config.teacher), model)
            if settings.hop != model.hop or settings.sample_rate != model.sample_rate:
                raise TrainingError(f"{config.teacher}: frames of another rate than the model's")
            teacher = teacher_of(weights, settings)
            features = LayerFeatures(teacher, config.layer or None, projected=not config.layer)
            self._origin = digest("content", to_json(settings), dict(weights))
        if config.encoder:
            encoder = find_teacher(config.encoder, (config.layer,), model.sample_rate)
            features = EncoderFeatures(encoder, config.layer, model.hop)
            self._origin = teacher_digest(encoder)
        # The encoder's path does not matter: its digest identifies it.
        kind = replace(config, encoder="without outliers") if config.encoder else config
        self._targets = UtteranceUnits(
            store,
            model.hop,
            len(config.clusters),
            lambda: find_targets(store, config, features, model.hop),
            f"{self._origin} {kind}",
        )

    def digests(self) -> dict[str, str]:
        return {"targets": self._origin}

    def begin_with(self, weights: Mapping[str, Tensor]) -> Sequence[str]:
        """Load another run's encoder and mask, or a unit tokenizer's encoder; heads for units are
        new.

        The projection, which is not trained, may have another size.
        """
        own = self.generator.state_dict()
        kept = {f"encoder.{name}": value for name, value in _of_encoder(weights).items()}
        kept = {k: v for k, v in kept.items() if not k.startswith(_PROJECTION)}
        if "mask" in weights:
            kept["mask"] = weights["mask"]
        untaught = ("heads.", "mask", _PROJECTION)
        rest = {k: v for k, v in own.items() if k.startswith(untaught)}
        load_grown(self.generator, rest | kept)
        return ("the heads",)

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        return block_matrices(self.generator)

    def generate(self, batch: Batch, step: int) -> Generated:
        recipe, model = self.recipe, self.recipe.model
        device, rows = batch.inputs.device, batch.inputs.shape[0]
        speeds = random_speeds(rows, recipe.perturb.speed, device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            waves = at_speeds(batch.inputs, speeds, self.samples)
            waves = perturbed(waves, recipe.perturb, model.sample_rate)
            # No frames of zeros after the crop: the utterance continues there.
            windows = windows_of(waves, model.window, model.hop)
            inputs = self.generator.encoder.inputs(windows)
        masked = self._masks(rows, inputs.shape[1], device)
        frames = inputs.shape[1] - model.look_ahead
        middles = (torch.arange(frames, device=device) + 0.5) * model.hop * speeds[:, None]
        starts = torch.tensor(batch.starts, device=device)[:, None]
        units, there = self._targets.at(batch.names, (starts + middles).long())
        units, there = units.to(device), there.to(device)
        hidden = masked[:, :frames]
        weights = there * torch.where(hidden, 1.0, recipe.unmasked_weight)
        losses, figures = {}, {}
        for number, logits in enumerate(self.generator(inputs, masked)):
            logits = logits[:, model.look_ahead :].float()
            entropy = functional.cross_entropy(logits.mT, units[:, number], reduction="none")
            # Relative to the frames of a whole crop, so that ranks may be averaged.
            losses[f"units/{number}"] = (entropy * weights).mean() / len(self.generator.heads)
            right = (logits.argmax(-1) == units[:, number]) & there
            for name, where in (("masked", hidden & there), ("unmasked", ~hidden & there)):
                share = (right & where).sum() / where.sum().clamp_min(1)
                figures[f"accuracy/{name}/{number}"] = share
        return Generated(waves, losses, figures)

    def _masks(self, rows: int, frames: int, device: torch.device) -> Tensor:
        """A mask (rows, frames) bool of spans that begin at random frames."""
        recipe = self.recipe
        begin = -torch.log(torch.tensor(1 - recipe.mask_share)) / recipe.mask_frames
        starts = torch.rand(rows, frames + recipe.mask_frames - 1, device=device) < begin
        return starts.unfold(1, recipe.mask_frames, 1).any(2)

    def is_whole(self, step: int) -> bool:
        """Never: the encoder is evaluated by its units (`benchmarks/unit_quality.py`)."""
        return False

    def caution(self, step: int) -> str:
        """Nothing: its units, fitted to a few batches, are units."""
        return ""

    @torch.no_grad()
    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        """Make a unit tokenizer; `syllabary fit kmeans` fits better units to all data.

        The encoder's output is a projection on directions of its last layer, which is not trained:
        see `projection.py`.
        """
        assert isinstance(generator, Predictor)
        # On the CPU, where the crops are.
        inputs, recipe = copy.deepcopy(generator.encoder).cpu().eval(), self.recipe
        model = recipe.saved_model
        layers = LayerFeatures(inputs)
        clean: list[Tensor] = []
        changed: list[Tensor] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed + 1)
            for crops in self._data.samples(1, recipe.unit_batches):
                found = frame_pairs(
                    layers, crops.waves, recipe.perturb, model.sample_rate, model.hop,
                    model.look_ahead,
                )  # fmt: skip
                clean.append(found.clean.flatten(0, 1))
                changed.append(found.perturbed.flatten(0, 1))
        weight, bias = steady_directions(
            torch.cat(clean), torch.cat(changed), model.dim, recipe.evenness
        )
        encoder = with_directions(inputs, model, weight, bias)
        features = LayerFeatures(encoder, projected=True)
        # Frames near the end would see silence.
        whole = slice(-model.look_ahead or None)
        samples = self._data.samples(1, recipe.unit_batches)
        rows = [features(crops.waves)[:, whole].flatten(0, 1) for crops in samples]
        kmeans = KMeans(KMeansConfig(recipe.num_units, iterations=10)).fit(
            torch.cat(rows), alone=True
        )
        return UnitTokenizer.of(Content.of(encoder), kmeans.centroids, recipe.name)


def teacher_of(weights: Mapping[str, Tensor], config: ContentConfig) -> ContentEncoder:
    """Return the encoder of a run's weights, or of a unit tokenizer's.

    Raises:
        TrainingError: the weights are of another encoder.
    """
    encoder = ContentEncoder(config)
    try:
        encoder.load_state_dict(_of_encoder(weights))
    except RuntimeError as error:
        raise TrainingError(f"the teacher's weights do not fit: {error}") from None
    return encoder.eval().requires_grad_(False)


def _teacher(place: Path, default: ContentConfig) -> tuple[Mapping[str, Tensor], ContentConfig]:
    """Return a teacher's weights and configuration, from a run or a unit tokenizer.

    Args:
        place: as for `start_from`.
        default: configuration for a run whose state has none.
    """
    state = beginning(place)
    if "recipe" in state:
        task = task_of(state["recipe"], str(place))
        if task != ContentRecipe.task:
            raise TrainingError(f"{place}: a run of task {task!r}, not of a content encoder")
        return state["average"], recipe_of(ContentRecipe, state["recipe"], str(place)).model
    if (place / CONFIG_FILE).exists():
        fields = dict(read_config(place)["config"].get("encoder", {}))
        if fields.pop("kind", None) != Content.kind:
            raise TrainingError(f"{place}: not a unit tokenizer of a content encoder")
        return state["average"], config_from_json(ContentConfig, fields)
    return state["average"], default


def _of_encoder(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the weights of a `ContentEncoder` from a run's weights, or a unit tokenizer's."""
    for prefix in ("encoder.network.", "encoder."):
        found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        if found:
            return found
    return {}


class LayerFeatures:
    """Features of a content encoder's layers, before or after its projection.

    Args:
        encoder: whose layers are used.
        layers: how many, from the first, and a norm without gains; default: all.
        projected: return the encoder's output after its last layer and projection.
    """

    def __init__(
        self, encoder: ContentEncoder, layers: int | None = None, projected: bool = False
    ) -> None:
        # Without the rounding of int8 layers, which is slow in PyTorch and not needed here.
        self.encoder = (truncated(encoder, layers) if layers else copy.deepcopy(encoder)).train()
        self.projected = projected

    def __call__(self, waves: Tensor) -> Tensor:
        """Features (batch, frames, width or dim) float32 of waves (batch, samples)."""
        encoder = self.encoder
        with torch.no_grad():
            inputs = encoder.inputs(encoder.windows_of(waves))
            with in_bfloat16(waves.device.type):
                y, _ = encoder.stack(inputs)
            if self.projected:
                y = encoder.projected(y.float())
        config = encoder.config
        # Means over frames come after their middle; the frames themselves do not.
        late = config.look_ahead - (0 if self.projected else config.averaged // 2)
        return y[:, late : late + y.shape[1] - config.look_ahead].float()


@torch.no_grad()
def with_directions(
    network: ContentEncoder, config: ContentConfig, weight: Tensor, bias: Tensor
) -> ContentEncoder:
    """Return an encoder with a network's layers and another map of the last one's output.

    Args:
        network: on any device; the result is on the CPU.
        config: of the result.
        weight, bias: (dim, width) and (dim,).
    """
    made = ContentEncoder(config).eval()
    made.load_state_dict(network.state_dict())
    made.outward.weight.copy_(weight)
    made.outward.bias.copy_(bias)
    return made


def truncated(encoder: ContentEncoder, layers: int) -> ContentEncoder:
    """Return the first layers of an encoder; the last norm has no gains, which belong to another
    layer.
    """
    config, kind = encoder.config, encoder.config.layers
    most = kind.blocks if isinstance(kind, StackConfig) else kind.layers
    if not 1 <= layers <= most:
        raise TrainingError(f"layer {layers} of an encoder with {most}")
    fewer: LayersConfig
    if isinstance(kind, StackConfig):
        fewer = replace(kind, blocks=layers)
    else:
        fewer = replace(kind, layers=layers)
    made = ContentEncoder(replace(config, layers=fewer))
    wanted = made.state_dict()
    made.load_state_dict({k: v for k, v in encoder.state_dict().items() if k in wanted})
    nn.init.ones_(made.stack.norm.weight)
    nn.init.zeros_(made.stack.norm.bias)
    return made.eval().requires_grad_(False)
