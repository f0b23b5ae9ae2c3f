"""`UnitTokenizer`: the nearest centroid to each frame of an encoder's features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...codecs.batches import code_rows
from ...codecs.interface import AudioTokenizer
from ...codecs.spec import TokenizerSpec
from ...codecs.streaming import DecoderStream, EncoderStream
from ...codecs.tokens import Tokens
from ...codecs.waves import wave_rows
from ...errors import CheckpointError, QuantizerError, TokenError, WaveError
from ...plain_torch import plainly
from ...quantizers import NearestCode
from ..encoders import catalogue
from ..encoders.interface import FeatureStream, SpeechEncoder
from ..speaking.config import SpeakingConfig
from ..speaking.interface import UnitVocoder
from ..speaking.mel_table import MelTableConfig, MelTableVocoder

if TYPE_CHECKING:
    from ..speaking.vocoder import SpeakingVocoder

_VOCODER = "vocoder."
# Rows whose distances are computed at once, in float64.
_BLOCK = 4096
_VOICE_SECONDS = 30


@dataclass(frozen=True)
class UnitsConfig:
    """Configuration of `UnitTokenizer`.

    Attributes:
        encoder: `kind`, and the fields of that kind's configuration.
        codebook_sizes: number of centroids for each group of the encoder's features.
        vocoder: mean spectra of units, or a trained vocoder; None if there is neither. The tokens
            do not depend on it.
    """

    encoder: dict[str, Any]
    codebook_sizes: tuple[int, ...]
    vocoder: MelTableConfig | SpeakingConfig | None = None

    def __post_init__(self) -> None:
        if not self.codebook_sizes or min(self.codebook_sizes) < 2:
            raise ValueError(f"codebooks have 2 codes or more, got sizes {self.codebook_sizes}")


class UnitTokenizer(AudioTokenizer):
    """Units of speech: for each frame, the nearest of K centroids to its features.

    - Lakhotia et al., "On Generative Spoken Language Modeling from Raw Audio", arXiv 2102.01192.
    - Hsu et al., "HuBERT", arXiv 2106.07447.

    `Tokens.deduplicate` merges runs of equal units and keeps their durations.

    Args:
        config: see `UnitsConfig`.
        name: the tokenizer's name.
        encoder: an existing one to use, of the configuration's kind and fields.

    Example:
        >>> encoder = catalogue.find("facebook/hubert-base-ls960", LayerChoice((6,)))
        >>> units = UnitTokenizer.of(encoder, load_centroids("km500.bin"))
        >>> tokens = units.encode(wave, 16000).deduplicate()
    """

    family = "units"
    Config = UnitsConfig

    def __init__(
        self, config: UnitsConfig, name: str | None = None, encoder: SpeechEncoder | None = None
    ) -> None:
        super().__init__(config, name)
        self.encoder = encoder or catalogue.build(config.encoder)
        sizes, dims = config.codebook_sizes, self.encoder.dims
        if len(sizes) != len(dims):
            raise QuantizerError(
                f"{len(sizes)} sets of centroids for {len(dims)} groups of features"
            )
        for index, (size, dim) in enumerate(zip(sizes, dims, strict=True)):
            self.register_buffer(_centroids(index), torch.zeros(size, dim, dtype=torch.float32))
        self.vocoder: UnitVocoder | None = None
        if config.vocoder:
            self.vocoder = _vocoder(config.vocoder, sizes[0])
            own, expected = ((part.sample_rate, part.hop) for part in (self.vocoder, self.encoder))
            if own != expected:
                raise ValueError(f"the vocoder has rate and hop {own}, the encoder {expected}")

    @classmethod
    @plainly
    def of(
        cls,
        encoder: SpeechEncoder,
        centroids: Tensor | Sequence[Tensor],
        name: str | None = None,
    ) -> Self:
        """Create a tokenizer from an encoder and centroids, not yet able to decode: see
        `with_mel_table`.

        Args:
            encoder: used as it is, not copied.
            centroids: (K, dim) floating point; a sequence of them for several codebooks.
            name: the tokenizer's name.

        Raises:
            QuantizerError: the centroids have another dimension than the features, are not
                finite, or are fewer than two.
        """
        tables = [centroids] if isinstance(centroids, Tensor) else list(centroids)
        for table, dim in zip(tables, encoder.dims, strict=False):
            if table.ndim != 2 or table.shape[1] != dim:
                raise QuantizerError(
                    f"centroids of shape {tuple(table.shape)} don't fit {encoder.description}, "
                    f"which gives {dim} dimensions: another layer or model made them?"
                )
            if len(table) < 2:
                raise QuantizerError(f"expected 2 centroids or more, got {len(table)}")
            if not bool(table.isfinite().all()):
                raise QuantizerError("centroids have NaN or infinite values")
        sizes = tuple(table.shape[0] for table in tables)
        tokenizer = cls(UnitsConfig(encoder.fields(), sizes), name, encoder)
        for own, table in zip(tokenizer.centroids, tables, strict=True):
            own.copy_(table)
        return tokenizer.to(encoder.device).eval()

    @plainly
    def with_mel_table(self, table: Tensor, config: MelTableConfig | None = None) -> Self:
        """Return a tokenizer that decodes with the units' mean log10 mel spectra (K, channels)."""
        changed = self._spoken_by(config or MelTableConfig())
        assert isinstance(changed.vocoder, MelTableVocoder)
        if table.shape != changed.vocoder.table.shape:
            raise QuantizerError(
                f"a mel table of shape {tuple(table.shape)}, expected "
                f"{tuple(changed.vocoder.table.shape)}"
            )
        changed.vocoder.table.copy_(table)
        return changed.to(self.device).eval()

    @plainly
    def with_vocoder(self, vocoder: "SpeakingVocoder", name: str | None = None) -> Self:
        """Return a tokenizer with the same units that decodes with a copy of a trained vocoder.

        Raises:
            QuantizerError: the vocoder has another number of units, or another rate.
        """
        if vocoder.num_units != self.config.codebook_sizes[0]:
            raise QuantizerError(
                f"a vocoder of {vocoder.num_units} units, and {self.config.codebook_sizes[0]} units"
            )
        changed = self._spoken_by(vocoder.config, name)
        assert changed.vocoder is not None
        changed.vocoder.load_state_dict(vocoder.state_dict())
        return changed.to(self.device).eval()

    @plainly
    def with_voice(self, wave: Tensor | np.ndarray, sample_rate: int) -> Self:
        """Return a tokenizer that decodes in the voice of a recording: voice conversion.

        Args:
            wave: (samples,) of one speaker; a few seconds are enough, at most half a minute is
                used.
            sample_rate: the tokenizer's own.

        Raises:
            WaveError: as for `encode`, or the wave is shorter than a tenth of a second.
            CheckpointError: the vocoder does not take a voice.
        """
        speaking = self._speaking()
        (row,) = wave_rows(wave, sample_rate, None, self.spec, self.device, 1)
        if len(row) < sample_rate // 10:
            raise WaveError(f"a voice can't be told from {len(row)} samples; give some seconds")
        changed = self.with_vocoder(speaking)
        excerpt = row[: _VOICE_SECONDS * sample_rate]
        changed._speaking().voice.copy_(speaking.hearing(excerpt[None])[0])
        return changed

    @plainly
    def with_guessed_durations(self, tokens: Tokens) -> Tokens:
        """Replace durations by those predicted for average speech; runs are merged first.

        Meant for units that a language model wrote.

        Args:
            tokens: from this tokenizer.

        Raises:
            CheckpointError: the vocoder has no duration predictor.
            TokenError: as for `decode`.
        """
        guess, hop = self._speaking().durations, self.spec.tokens.hop
        code_rows(tokens, self.spec, self.device)  # checks the tokens
        merged = tokens.to(self.device).deduplicate()
        assert merged.durations is not None
        durations = torch.zeros_like(merged.durations)
        for row, count in enumerate(merged.lengths.tolist()):
            durations[row, :count] = guess.durations(merged.codes[row, 0, :count])
        return replace(merged, durations=durations, num_samples=durations.sum(1) * hop)

    def _speaking(self) -> "SpeakingVocoder":
        from ..speaking.vocoder import SpeakingVocoder

        if not isinstance(self.vocoder, SpeakingVocoder):
            raise CheckpointError(
                f"{self.name} has no trained vocoder, as units-16k has: no voice to choose and no "
                "durations to guess"
            )
        return self.vocoder

    def _spoken_by(self, config: MelTableConfig | SpeakingConfig, name: str | None = None) -> Self:
        """Return the same encoder and centroids with a vocoder whose weights are not loaded yet."""
        changed = type(self)(replace(self.config, vocoder=config), name or self.name, self.encoder)
        for own, table in zip(changed.centroids, self.centroids, strict=True):
            own.copy_(table)
        return changed

    @property
    def centroids(self) -> list[Tensor]:
        """(K, dim) float32 of each codebook."""
        return [getattr(self, _centroids(i)) for i in range(len(self.config.codebook_sizes))]

    # --- the interface -------------------------------------------------------------------------

    def token_tensors(self) -> dict[str, Tensor]:
        state = self.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(_VOCODER)}

    def token_config(self) -> dict[str, Any]:
        return {name: v for name, v in super().token_config().items() if name != "vocoder"}

    def describe(self) -> TokenizerSpec:
        encoder, sizes = self.encoder, self.config.codebook_sizes
        macs = encoder.macs_per_second
        if macs is not None:
            products = sum(size * dim for size, dim in zip(sizes, encoder.dims, strict=True))
            macs += round(products * encoder.sample_rate / encoder.hop)
            macs += round(self.vocoder.macs_per_second) if self.vocoder else 0
        return TokenizerSpec(
            tokens=self.token_spec(encoder.hop, sizes, encoder.sample_rate),
            family=self.family,
            causal=encoder.causal,
            encoder_latency=encoder.latency,
            decoder_latency=self.vocoder.latency if self.vocoder else None,
            min_codebooks=1,
            parameters=sum(weight.numel() for weight in self.parameters())
            + sum(table.numel() for table in self.centroids),
            macs_per_second=macs,
            license=encoder.license,
            source=encoder.source,
            description=f"units of {encoder.description}",
            latent_channels=encoder.dim,
            broken_promises=encoder.broken_promises
            | dict(self.vocoder.broken_promises if self.vocoder else {}),
        )

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        searches = self._searches()[:num_codebooks]
        return _UnitStream(self.encoder.start(batch_size), searches, self.encoder.dims)

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        """Return each frame's centroids; those of a group of features have zeros elsewhere."""
        parts, start, whole = [], 0, self.encoder.dim
        for column, table, dim in zip(codes.T, self.centroids, self.encoder.dims, strict=False):
            parts.append(functional.pad(table[column], (start, whole - start - dim)))
            start += dim
        return parts

    def start_decoder(self, batch_size: int) -> DecoderStream:
        if self.vocoder is None:
            raise CheckpointError(
                f"{self.name} has no way back to sound: its centroids came without the mean "
                "spectra of their frames. `syllabary fit kmeans AUDIO --from CENTROIDS …` finds "
                "them in any speech, as UnitTokenizer.with_mel_table takes them"
            )
        return self.vocoder.start(batch_size)

    def _searches(self) -> list[NearestCode]:
        """Return the nearest-code searches for the current centroids."""
        return self.identity(sampled=False).prepared(self._made_searches)

    def _made_searches(self) -> list[NearestCode]:
        return [NearestCode(table) for table in self.centroids]

    # --- features and distances ----------------------------------------------------------------

    @plainly
    def features(
        self,
        wave: Tensor | np.ndarray,
        sample_rate: int,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the features that are quantized.

        Args:
            wave, sample_rate, lengths: as for `encode`.

        Returns:
            (batch, frames, dim) float32, zeros beyond a row's end, and the number of frames of each
            row (batch,) int64.

        Raises:
            WaveError: as for `encode`.
        """
        rows = wave_rows(wave, sample_rate, lengths, self.spec, self.device)
        features = self.encoder.features(rows)
        counts = [len(row) for row in features]
        out = torch.zeros(len(rows), max(counts, default=0), self.encoder.dim, device=self.device)
        for index, row in enumerate(features):
            out[index, : len(row)] = row
        return out, torch.tensor(counts, dtype=torch.long, device=self.device)

    @plainly
    def encode_soft(
        self,
        wave: Tensor | np.ndarray,
        sample_rate: int,
        lengths: Tensor | Sequence[int] | None = None,
        codebook: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Compute the squared distances of each frame to all centroids, instead of the nearest
        index.

        They keep information that a hard choice discards. Soft units for voice conversion (van
        Niekerk et al., "A Comparison of Discrete and Soft Speech Units for Improved Voice
        Conversion", arXiv 2111.02392) are a distribution over units that a layer learns; a softmax
        of these negative distances is one without training.

        Args:
            wave, sample_rate, lengths: as for `encode`.
            codebook: index of the codebook whose centroids are used.

        Returns:
            (batch, frames, K) float32, zeros beyond a row's end, and the number of frames of each
            row (batch,) int64.

        Raises:
            WaveError: as for `encode`.
            TokenError: there is no such codebook.
        """
        if not 0 <= codebook < len(self.centroids):
            raise TokenError(f"codebook {codebook} of {len(self.centroids)}")
        features, counts = self.features(wave, sample_rate, lengths)
        part = features.split(self.encoder.dims, dim=2)[codebook]
        table = self.centroids[codebook].double()
        norms = (table**2).sum(1)
        out = features.new_zeros(*part.shape[:2], len(table))
        for row, count in enumerate(counts.tolist()):
            for start in range(0, count, _BLOCK):
                x = part[row, start : min(count, start + _BLOCK)].double()
                squares = (x**2).sum(1, keepdim=True) - 2 * (x @ table.T) + norms
                out[row, start : start + len(x)] = squares.clamp_min(0)
        return out, counts


class _UnitStream(EncoderStream):
    """A feature stream followed by the search for the nearest centroids."""

    def __init__(
        self, features: FeatureStream, searches: Sequence[NearestCode], dims: Sequence[int]
    ) -> None:
        self.features, self.searches, self.dims = features, searches, list(dims)

    def init_row(self) -> Any:
        return self.features.init_row()

    def reset(self, row: int) -> None:
        self.features.reset(row)

    def export_row(self, row: int) -> Any:
        return self.features.export_row(row)

    def check_row(self, state: Any) -> None:
        self.features.check_row(state)

    def count_given(self, state: Any, taken: int) -> int | None:
        return self.features.count_given(state, taken)

    def import_row(self, row: int, state: Any) -> None:
        self.features.import_row(row, state)

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return [self._codes(row) for row in self.features.push(rows, final)]

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return self.features.push(rows, final)

    def _codes(self, features: Tensor) -> Tensor:
        """Quantize features (frames, dim) to codes (codebooks, frames)."""
        parts = features.split(self.dims, dim=1)
        if not len(features):
            return torch.zeros(len(self.searches), 0, dtype=torch.long, device=features.device)
        return torch.stack(
            [search(part.contiguous()) for search, part in zip(self.searches, parts, strict=False)]
        )


def _vocoder(config: MelTableConfig | SpeakingConfig, num_units: int) -> UnitVocoder:
    if isinstance(config, MelTableConfig):
        return MelTableVocoder(config, num_units)
    from ..speaking.vocoder import SpeakingVocoder

    return SpeakingVocoder(config, num_units)


def _centroids(index: int) -> str:
    return f"centroids_{index}"
