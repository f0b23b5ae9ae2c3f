"""`Recipe`: all settings that determine the result of a training run, as a frozen dataclass."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..errors import TrainingError
from .data.augment import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The training, validation and noise data.

    Attributes:
        manifest: a manifest, or any folder of speech; "" stands for $SYLLABARY_SPEECH.
        noise: the same for noise; required if `augment.noise_probability` is above 0. "" stands
            for $SYLLABARY_NOISE.
        exclude_sources: sources of the manifest that are left out.
        train_split, valid_split, noise_split: splits of the manifests; "" takes all lines. Speech
            without any split is divided into the first two, by speakers where they are known.
        sample_rate: Hz; files at other rates are resampled.
        channels: how files with several channels are read, see `audio.read`.
        crop_samples: samples of each crop, a row of a batch.
        temperature, max_share: balance the sources, see `CropSampler`.
        augment: augmentation of crops.
    """

    manifest: str = ""
    noise: str = ""
    exclude_sources: tuple[str, ...] = ()
    train_split: str = "train"
    valid_split: str = "valid"
    noise_split: str = ""
    sample_rate: int = 16000
    channels: Literal["mix", "first", "mono"] = "mix"
    crop_samples: int = 16000
    temperature: float = 1.0
    max_share: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.crop_samples < 1:
            raise TrainingError(
                "sample_rate and crop_samples must be at least 1, got "
                f"{self.sample_rate} and {self.crop_samples}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101), and Muon for hidden matrices.

    Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon; scaled to Adam's updates
    as in Liu et al., arXiv 2502.16982) orthogonalises a matrix's momentum before it is applied.

    Attributes:
        lr: maximal learning rate.
        muon_lr: that of the matrices in `TrainingTask.hidden_matrices`; with 0 AdamW trains them.
        muon_momentum: decay of the moving average of their gradients.
        betas, eps: of Adam. Codecs train with β₁ = 0.8 since HiFi-GAN (arXiv 2010.05646).
        weight_decay: of tensors with two axes or more; biases and gains have none.
        clip_norm: gradients are scaled to at most this Euclidean norm; 0 disables clipping.
        fused: use torch's fused implementation.
    """

    lr: float = 3e-4
    muon_lr: float = 0.0
    muon_momentum: float = 0.95
    betas: tuple[float, float] = (0.8, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    fused: bool = True

    def __post_init__(self) -> None:
        if not (
            min(self.lr, self.muon_lr) >= 0
            and self.eps > 0
            and self.weight_decay >= 0
            and self.clip_norm >= 0
        ):
            raise TrainingError(
                f"lr, weight_decay and clip_norm must not be negative and eps be positive: {self}"
            )
        if not all(0 <= beta < 1 for beta in (*self.betas, self.muon_momentum)):
            raise TrainingError(
                f"betas and muon_momentum must lie in [0, 1), got {self.betas} and "
                f"{self.muon_momentum}"
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate schedule, a function of the step alone, so that resuming is exact.

    Attributes:
        warmup_steps: steps of linear warm-up from 0.
        decay: "cosine" down to `final_ratio` at `decay_steps`, "exponential" through
            `final_ratio` at `decay_steps` and beyond, or "constant".
        decay_steps: None stands for the recipe's `steps`; set it for a run that may be prolonged.
        final_ratio: relative to the maximal rate.
    """

    warmup_steps: int = 500
    decay: Literal["cosine", "exponential", "constant"] = "cosine"
    decay_steps: int | None = None
    final_ratio: float = 0.1

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or (self.decay_steps is not None and self.decay_steps < 1):
            raise TrainingError(f"warmup_steps and decay_steps must be positive: {self}")
        if not 0 <= self.final_ratio <= 1 or (self.decay == "exponential" and not self.final_ratio):
            raise TrainingError(
                f"final_ratio must lie in [0, 1], above 0 if exponential, got {self.final_ratio}"
            )


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """When and how the discriminator is trained.

    Attributes:
        start_step: before it, only the losses of `TrainingTask.generate` are used. The
            discriminator's warm-up begins here.
        discriminator_every: the discriminator is trained every so many steps.
        optimizer: the discriminator's.
    """

    start_step: int = 0
    discriminator_every: int = 1
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.start_step < 0 or self.discriminator_every < 1:
            raise TrainingError(
                "start_step must be at least 0 and discriminator_every at least 1, got "
                f"{self.start_step} and {self.discriminator_every}"
            )


@dataclass(frozen=True, kw_only=True)
class BalancerConfig:
    """Settings of `GradientBalancer`; losses not in `fractions` are added with their own
    weights.
    """

    fractions: dict[str, float]
    total_norm: float = 1.0
    decay: float = 0.999


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How a run is validated: with averaged weights, always on the same utterances.

    Attributes:
        every: steps between validations; 0 validates only at the end.
        utterances: number of utterances, chosen from the speakers in turn.
        min_seconds, max_seconds: shorter utterances are left out, longer ones truncated.
        best_by: the score that selects `best/`: "mel" (lower is better), or the name of a metric
            given to `train`, such as "PESQ-wb" or "STOI" (higher is better).
        pictures: number of utterances in TensorBoard, as spectrograms and audio.
    """

    every: int = 1000
    utterances: int = 24
    min_seconds: float = 1.0
    max_seconds: float = 6.0
    best_by: str = "PESQ-wb"
    pictures: int = 3

    def __post_init__(self) -> None:
        if self.every < 0 or self.utterances < 1 or self.pictures < 0:
            raise TrainingError(f"every, utterances and pictures must be positive: {self}")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise TrainingError(
                f"expected 0 < min_seconds <= max_seconds, got {self.min_seconds} and "
                f"{self.max_seconds}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The fields of every recipe; a task's own recipe adds its model and the weights of its losses.

    Attributes:
        task: (of the class) the name of its `TrainingTask` in `recipe_registry.TASKS`.
        name: name of the tokenizer; where a bundled recipe or tokenizer has that name, the
            tokenizer gets the name of the run's folder, so that it is never taken for that one.
        seed: of all random choices.
        steps: number of optimizer steps.
        batch_size: rows of a batch, over all ranks.
        ema_decay: of the weights' moving average, smaller at first: min(decay, (1+n)/(10+n)).
        bf16: autocast to bfloat16 (losses and quantizers stay in float32); not on a processor
            without it, where it would take many times as long.
        adversarial: None trains without a discriminator.
        balancer: None sums the losses as they are.
        start_from: folder of another run, its state file, a saved tokenizer, or the name of a
            bundled trained one; training starts from its averaged weights, and from its
            discriminator if it has one. "" initializes from the seed.
        log_every: steps between lines of the log, which contain means over these steps.
        save_every, save_minutes: a state is saved after either; 0 disables one.
        license: of the trained weights, for the tokenizer's `config.json`; "" states none.
    """

    task: ClassVar[str]

    name: str
    seed: int = 0
    steps: int = 100_000
    batch_size: int = 16
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    adversarial: AdversarialConfig | None = None
    balancer: BalancerConfig | None = None
    ema_decay: float = 0.999
    bf16: bool = False
    start_from: str = ""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    log_every: int = 50
    save_every: int = 0
    save_minutes: float = 5.0
    license: str = ""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.log_every) < 1:
            raise TrainingError(
                "steps, batch_size and log_every must be at least 1, got "
                f"{self.steps}, {self.batch_size} and {self.log_every}"
            )
        if not 0 <= self.ema_decay < 1:
            raise TrainingError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.save_every < 0 or self.save_minutes < 0:
            raise TrainingError(
                f"save_every and save_minutes must not be negative, got {self.save_every} and "
                f"{self.save_minutes}"
            )
