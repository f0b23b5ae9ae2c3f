"""Training of the vocoder for units."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.interface import AudioTokenizer
from ...codecs.registry import load
from ...codecs.rvq.tokenizer import RVQCodec
from ...errors import TrainingError
from ...semantic.speaking.config import SpeakingConfig
from ...semantic.speaking.vocoder import SpeakingVocoder
from ...semantic.units.tokenizer import UnitTokenizer
from ..data.utterance_units import UtteranceUnits
from ..task import Batch, Generated
from ..training_set import TrainingSet
from .growth import load_grown
from .supervised_task import SupervisedRecipe, SupervisedTask, rendered


@dataclass(frozen=True, kw_only=True)
class UnitVocoderRecipe(SupervisedRecipe):
    """Recipe of a `SpeakingVocoder`.

    Attributes:
        task: its name.
        units: name or folder of the unit tokenizer that the vocoder is for.
        decoder: name or folder of the initial weights; "" is none. An RVQ codec provides its
            decoder, and its mean latents initialize the units' embeddings. A unit tokenizer
            provides its vocoder; means of its embeddings initialize those of other units.
        model: the vocoder.
        voice_seconds: length of the reference utterance of the same speaker, which gives the voice.
        duration_weight: of the durations' loss.
        default_voice: source in the manifest whose mean voice is the default; "" is all.
    """

    task: ClassVar[str] = "unit-vocoder"
    units: str = "runs/units"
    decoder: str = ""
    model: SpeakingConfig = field(default_factory=SpeakingConfig)
    voice_seconds: float = 2.5
    duration_weight: float = 0.3
    default_voice: str = "ljspeech"


class UnitVocoderTask(SupervisedTask[UnitVocoderRecipe]):
    """Trains a `SpeakingVocoder` for the units of a tokenizer.

    Args:
        recipe: see `UnitVocoderRecipe`.
    """

    Recipe = UnitVocoderRecipe

    generator: SpeakingVocoder

    def __init__(self, recipe: UnitVocoderRecipe) -> None:
        super().__init__(recipe)
        base = load(Path(recipe.units) if Path(recipe.units).is_dir() else recipe.units)
        if not isinstance(base, UnitTokenizer) or base.spec.tokens.num_codebooks != 1:
            raise TrainingError(f"{recipe.units} is no unit tokenizer with one codebook")
        if base.spec.tokens.hop != recipe.model.hop:
            raise TrainingError(
                f"units of {base.spec.tokens.hop} samples and a vocoder with hop {recipe.model.hop}"
            )
        # Not a submodule: it is neither trained nor moved.
        self._base = [base]
        self.num_units = base.spec.tokens.codebook_sizes[0]
        self.generator = SpeakingVocoder(recipe.model, self.num_units)
        nn.init.normal_(self.generator.units.weight, std=0.5)
        nn.init.normal_(self.generator.voicing.weight, std=0.1)
        head = recipe.model.head
        self.supervise(head.step, head.hop, head.sample_rate)

    def prepare(self, data: TrainingSet) -> None:
        super().prepare(data)
        self._data, base = data, self._base[0]
        self._store = store = data.store
        tokens = base.spec.tokens

        def find() -> np.ndarray:
            waves = (store.samples(n).astype(np.float32) / 32768 for n in range(len(store)))
            return np.concatenate(
                [base.encode(wave, tokens.sample_rate).codes[0].numpy() for wave in waves], 1
            )

        self._units = UtteranceUnits(store, tokens.hop, 1, find, tokens.digest)
        self._numbers = {entry.name: n for n, entry in enumerate(store.entries)}
        self._of_speaker: dict[str, list[int]] = {}
        for number, entry in enumerate(store.entries):
            self._of_speaker.setdefault(_speaker(entry, number), []).append(number)
        wanted = self.recipe.default_voice
        self._default = [
            n for n, entry in enumerate(store.entries) if not wanted or entry.source == wanted
        ]
        if not self._default:
            sources = sorted({entry.source or "" for entry in store.entries})
            raise TrainingError(f"default_voice: no source {wanted!r}; there are {sources}")
        if self.recipe.decoder:
            self._begin_with_other()

    def digests(self) -> dict[str, str]:
        return super().digests() | {"units": self._base[0].spec.tokens.digest}

    @torch.no_grad()
    def _begin_with_other(self) -> None:
        """Initialize from the recipe's `decoder`.

        Raises:
            TrainingError: none of its parts fits.
        """
        place, hop = self.recipe.decoder, self.recipe.model.hop
        other = load(Path(place) if Path(place).is_dir() else place)
        if (
            isinstance(other, RVQCodec)
            and other.network.hop == hop
            and not other.network.encoder_look_ahead
        ):
            self._begin_with_codec(other)
        elif (
            isinstance(other, UnitTokenizer)
            and other.spec.tokens.hop == hop
            and isinstance(other.vocoder, SpeakingVocoder)
        ):
            self._begin_with_vocoder(other, other.vocoder)
        else:
            raise TrainingError(
                f"{place} is neither an RVQ codec without look-ahead nor a unit tokenizer with a "
                f"trained vocoder, of hop {hop}"
            )

    def _begin_with_codec(self, codec: RVQCodec) -> None:
        """Load a codec's decoder, and use mean latents of the codec as embeddings of the units."""
        self._take(self.generator.decoder, codec.decoder.state_dict())

        def latents(waves: Tensor) -> Tensor:
            return codec.encoder.latents(codec.encoder.windows_of(waves))[0]

        means = self._means_at_units(latents, codec.network.latent_dim)
        self.generator.units.weight.copy_(means)

    def _begin_with_vocoder(self, tokenizer: UnitTokenizer, vocoder: SpeakingVocoder) -> None:
        """Load a vocoder for other units, and use the means of its embeddings for the new units."""
        weights, rate = vocoder.state_dict(), tokenizer.spec.tokens.sample_rate

        def embeddings(waves: Tensor) -> Tensor:
            units = tokenizer.encode(waves, rate).codes[:, 0]
            return torch.cat([vocoder.units(units), vocoder.durations.units(units)], 2)

        dims = vocoder.config.latent_dim, vocoder.config.duration_width
        spoken, lasting = self._means_at_units(embeddings, sum(dims)).split(dims, 1)
        none = vocoder.durations.units.weight[-1:]
        weights["units.weight"] = spoken
        weights["durations.units.weight"] = torch.cat([lasting, none])
        self._take(self.generator, weights)

    def _take(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise TrainingError(f"{self.recipe.decoder} does not fit: {error}") from None

    def _means_at_units(self, values_of: Callable[[Tensor], Tensor], channels: int) -> Tensor:
        """For each unit, the mean (units, channels) of values over its frames.

        Args:
            values_of: maps waves (batch, samples) of whole frames to (batch, frames, channels).
            channels: of the values.
        """
        hop = self.recipe.model.hop
        sums = torch.zeros(self.num_units, channels, dtype=torch.float64)
        counts = torch.zeros(self.num_units, dtype=torch.float64)
        for crop in self._data.samples(1, 150):
            waves, starts = self._on_grid(crop.waves, torch.tensor(crop.starts))
            units, there = self._at(crop.names, starts, waves.shape[1] // hop)
            sums.index_add_(0, units[there], values_of(waves)[there].double())
            counts.index_add_(0, units[there], torch.ones(int(there.sum()), dtype=torch.float64))
        mean = sums.sum(0) / counts.sum()
        return ((sums + 3 * mean) / (counts[:, None] + 3)).float()

    def _at(self, names: tuple[str, ...], starts: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Units (batch, frames) of crops that begin at samples `starts`, and a mask of valid
        frames.
        """
        places = starts[:, None] + torch.arange(frames) * self.recipe.model.hop
        units, there = self._units.at(names, places)
        return units[:, 0], there

    def _on_grid(self, waves: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Trim crops (batch, samples) to start on a frame boundary; also return the new starts."""
        hop = self.recipe.model.hop
        skipped = -starts % hop
        samples = waves.shape[1] // hop * hop - hop
        places = skipped[:, None].to(waves.device) + torch.arange(samples, device=waves.device)
        return waves.gather(1, places), starts + skipped

    def begin_with(self, weights: Mapping[str, Tensor]) -> Sequence[str]:
        """Load another run's vocoder, or that of a saved tokenizer."""
        prefix = "vocoder."
        if any(name.startswith(prefix) for name in weights):
            weights = {
                k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)
            }
        load_grown(self.generator, weights)
        return ()

    def generate(self, batch: Batch, step: int) -> Generated:
        supervision, model = self.supervision, self.recipe.model
        inputs, starts = self._on_grid(batch.inputs, torch.tensor(batch.starts))
        targets, _ = self._on_grid(batch.targets, torch.tensor(batch.starts))
        lengths = (batch.lengths - (starts - torch.tensor(batch.starts)).to(batch.lengths)).clamp(
            1, inputs.shape[1]
        )
        batch = Batch(inputs, targets, lengths, batch.names, tuple(starts.tolist()))
        pitch, voiced = supervision.pitch(batch)
        units, there = self._at(batch.names, starts, inputs.shape[1] // model.hop)
        device = inputs.device
        units, there = units.to(device), there.to(device)
        voices = self._voices(batch.names, device)
        latents = self.generator.latents(units, voices) * there[..., None]
        wave, voicing = rendered(
            self.generator.decoder,
            latents,
            model.delay,
            model.hop,
            inputs.shape[1],
            supervision.forced_pitch(pitch, step),
        )
        losses = supervision.spectral_losses(wave, batch)
        losses |= supervision.voicing_losses(voicing, pitch, voiced)
        runs, durations, known = _runs(units, there)
        losses["durations"] = self.recipe.duration_weight * self.generator.durations.loss(
            runs, durations, known
        )
        return Generated(wave, losses)

    def _voices(self, names: tuple[str, ...], device: torch.device) -> Tensor:
        """Voices (batch, voice_dim) from other utterances of the same speakers, if there
        are any.
        """
        numbers = []
        for name in names:
            number = self._numbers[name]
            others = self._of_speaker[_speaker(self._store.entries[number], number)]
            picked = others[int(torch.randint(len(others), ()))]
            if picked == number and len(others) > 1:
                picked = others[(others.index(number) + 1) % len(others)]
            numbers.append(picked)
        return self.generator.hearing(*self._references(numbers, device))

    def _references(self, numbers: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Random segments (batch, samples) of utterances, and their lengths."""
        most = int(self.recipe.voice_seconds * self._store.sample_rate)
        waves = torch.zeros(len(numbers), most)
        lengths = torch.zeros(len(numbers), dtype=torch.int64)
        for row, number in enumerate(numbers):
            samples = self._store.samples(number)
            start = int(torch.randint(max(1, len(samples) - most), ()))
            piece = torch.from_numpy(samples[start : start + most].astype("float32"))
            waves[row, : len(piece)] = piece / 32768
            lengths[row] = len(piece)
        return waves.to(device), lengths.to(device)

    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        vocoder = copy.deepcopy(generator)
        assert isinstance(vocoder, SpeakingVocoder)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            voices = vocoder.hearing(*self._references(self._default[:32], vocoder.voice.device))
            vocoder.voice.copy_(functional.normalize(voices.mean(0), dim=0))
        return self._base[0].with_vocoder(vocoder, self.recipe.name)


def _speaker(entry: "object", number: int) -> str:
    """Return the speaker of an utterance; an utterance without speaker counts as its own
    speaker.
    """
    speaker = getattr(entry, "speaker", None)
    return f"speaker {speaker}" if speaker is not None else f"utterance {number}"


def _runs(units: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Runs of equal units, their durations, and whether the durations are known.

    Args:
        units, there: (batch, frames).

    Returns:
        (batch, positions) each: units with -1 for none; frames; bool, false for the first run of a
        row, which the crop may have cut, and for the last one if the crop ends before the
            utterance.
    """
    batch, frames = units.shape
    marked = torch.where(there, units, -1)
    changes = functional.pad(marked[:, 1:] != marked[:, :-1], (1, 0), value=True)
    place = changes.long().cumsum(1) - 1
    runs = units.new_full((batch, frames), -1).scatter(1, place, marked)
    durations = units.new_zeros(batch, frames).scatter_add(1, place, torch.ones_like(units))
    number = torch.arange(frames, device=units.device)
    last = torch.where(runs >= 0, number, -1).amax(1, keepdim=True)
    ended = ~there[:, -1:]
    return runs, durations, (runs >= 0) & (number > 0) & ((number < last) | ended)
